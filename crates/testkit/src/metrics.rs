//! The metrics of a gateway.

use std::str::FromStr;

use crate::{deadline::eventually, gateway::Gateway};

impl Gateway {
    /// Returns the value of a metric, written as in the page: `tidegate_updates_total`.
    pub async fn metric(&self, name: &str) -> f64 {
        self.sample(name).await.unwrap_or_else(|| panic!("the page has no {name}"))
    }

    /// Returns the value of a metric, or `None` if the page does not have it.
    pub async fn sample<T: FromStr>(&self, name: &str) -> Option<T> {
        let page = self.get("/metrics").await.text().await.expect("a page");
        let value = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
        Some(value.parse().unwrap_or_else(|_| panic!("{name} is {value}")))
    }

    /// Waits until a metric has a value.
    pub async fn until_metric(&self, name: &str, value: f64) {
        let is_reached = async || self.metric(name).await == value;
        eventually(&format!("{name} becomes {value}"), is_reached).await;
    }
}
