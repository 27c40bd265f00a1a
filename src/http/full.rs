//! Problems for lack of room: seats of subscribers, and budgets in total and for an address.

use actix_web::http::StatusCode;
use tidegate_core::{budget::Full, clients::NotMet, subscriptions};

use super::problem::Problem;

impl Problem {
    /// 429 or 503: there is no room for another subscriber.
    #[must_use]
    pub(crate) fn full(full: Full) -> Self {
        const RETRY_SECONDS: std::ops::Range<u64> = 5..15;
        let (problem, limit) = match full {
            Full::InAll(limit) => {
                let detail = format!("there are {limit} subscribers, which is the limit");
                (
                    Self::new(
                        StatusCode::SERVICE_UNAVAILABLE,
                        "subscribers",
                        "Unavailable",
                        detail,
                    ),
                    limit,
                )
            }
            Full::Address(limit) => {
                let detail =
                    format!("there are {limit} subscribers from this address, which is the limit");
                let title = "Too many requests";
                (
                    Self::new(
                        StatusCode::TOO_MANY_REQUESTS,
                        "subscribers_per_address",
                        title,
                        detail,
                    ),
                    limit,
                )
            }
        };
        // A random time, so that clients do not all return at once.
        problem.with_limit(limit).with_retry_after(fastrand::u64(RETRY_SECONDS))
    }

    /// 429 or 503: there is no room for another subscriber without an access token.
    #[must_use]
    pub(crate) fn strangers_full(full: Full) -> Self {
        match full {
            Full::Address(_) => Self::full(full),
            Full::InAll(limit) => {
                let detail = format!(
                    "there are {limit} subscribers without a token, which is the limit (limits.strangers)"
                );
                Self::unavailable("strangers", detail).with_limit(limit)
            }
        }
    }

    /// 429 or 503: arriving request bodies use as much memory as allowed.
    #[must_use]
    pub(crate) fn bodies_full(full: Full) -> Self {
        const WHAT: &str = "bytes of bodies of requests on their way";
        Self::spent(full, WHAT, ["bodies", "bodies_per_address"], "limits.bodies_bytes")
    }

    /// 429 or 503: the matchers of subscriptions use as much memory as allowed.
    #[must_use]
    pub(crate) fn matchers_full(full: Full) -> Self {
        const WHAT: &str = "bytes of matchers of subscriptions";
        Self::spent(full, WHAT, ["matchers", "matchers_per_address"], "limits.matchers_bytes")
    }

    /// 429: the patterns of subscriptions from one address cost as much as allowed.
    #[must_use]
    pub(crate) fn patterns_full(full: Full) -> Self {
        const WHAT: &str = "as the cost of patterns of subscriptions";
        Self::spent(full, WHAT, ["patterns", "patterns_per_address"], "limits.matchers_cost")
    }

    /// 429: the list has as many subscriptions from one address as allowed.
    #[must_use]
    pub(crate) fn listed_full(full: Full) -> Self {
        const WHAT: &str = "subscriptions on the list";
        let reasons = ["subscriptions", "subscriptions_per_address"];
        Self::spent(full, WHAT, reasons, "mercure.max_subscriptions")
    }

    /// 429 or 503: there are as many clients as allowed.
    #[must_use]
    pub(crate) fn clients_full(full: Full) -> Self {
        let setting = match full {
            Full::InAll(_) => "limits.subscribers",
            Full::Address(_) => "clients.per_address",
        };
        let (Full::InAll(limit) | Full::Address(limit)) = full;
        let detail = format!("there are {limit} clients, which is the limit ({setting})");
        let problem = match full {
            Full::InAll(_) => Self::unavailable("clients", detail),
            Full::Address(_) => Self::too_many("clients_per_address", detail, 5),
        };
        problem.with_limit(limit)
    }

    /// 403, 429 or 503: the request cannot act for this client.
    #[must_use]
    pub(crate) fn not_met(error: NotMet) -> Self {
        match error {
            NotMet::OtherUser => {
                let detail =
                    "this client belongs to another user; a page makes up a new key for each user";
                Self::new(StatusCode::FORBIDDEN, "other_user", "Another user's client", detail)
            }
            NotMet::Full(full) => Self::clients_full(full),
        }
    }

    /// 429: one client or address does too much.
    #[must_use]
    pub(crate) fn too_many(reason: &'static str, detail: String, retry_seconds: u64) -> Self {
        let status = StatusCode::TOO_MANY_REQUESTS;
        Self::new(status, reason, "Too many requests", detail).with_retry_after(retry_seconds)
    }

    /// A budget is used up: in total (503), or for the peer's address (429), whose setting ends in
    /// `_per_address`.
    fn spent(
        full: Full,
        what: &str,
        [of_all, of_address]: [&'static str; 2],
        setting: &str,
    ) -> Self {
        match full {
            Full::InAll(limit) => {
                let detail =
                    format!("there is room for {limit} {what} ({setting}), and it is used up");
                Self::unavailable(of_all, detail).with_limit(limit)
            }
            Full::Address(limit) => {
                let detail = format!(
                    "there is room for {limit} {what} from one address ({setting}_per_address), and it is used up"
                );
                let status = StatusCode::TOO_MANY_REQUESTS;
                let problem = Self::new(status, of_address, "Too many requests", detail);
                problem.with_limit(limit).with_retry_after(1)
            }
        }
    }

    /// 503: there is no room for more matchers on the list of subscriptions.
    #[must_use]
    pub(crate) fn listed_out(subscriptions::Full(limit): subscriptions::Full) -> Self {
        let detail = format!(
            "there are {limit} subscriptions (mercure.max_subscriptions), which is the limit"
        );
        Self::unavailable("subscriptions", detail).with_limit(limit)
    }
}
