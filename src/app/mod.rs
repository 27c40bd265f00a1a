//! The application behind a gateway: handlers of calls, guards, and what it does when clients come
//! and go.

mod ask;
mod up;

use std::{collections::BTreeMap, fmt, io, pin::Pin, sync::Arc};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use tidegate_core::{
    event::Topic,
    jobs::{JobHandle, JobResult},
    matching::{Matcher, MatcherKind, Matchers},
};

pub use self::ask::Ask;
pub use crate::realtime::handle::{Callback, Client, Replies, TopicHandle};
use crate::{gateway::Gateway, http::problem::Problem, settings::Settings};

type Working<T> = Pin<Box<dyn Future<Output = Result<T, Problem>> + Send>>;

/// A handler of calls.
type Handler = Box<dyn Fn(Client, Value) -> Working<Value> + Send + Sync>;

/// A handler of calls that go on as jobs.
type JobWork = Box<dyn Fn(Client, Value, JobHandle) -> Working<JobResult> + Send + Sync>;

/// A guard of topics.
type Guard = Box<dyn Fn(Client, Ask) -> Working<Ask> + Send + Sync>;

/// What is done when a client comes or goes.
type Visit = Box<dyn Fn(Client) -> Working<()> + Send + Sync>;

/// What an application adds to a gateway: its handlers run on the worker that serves the client's
/// request, and one client's ordered calls never run two at a time.
///
/// ```no_run
/// use serde::{Deserialize, Serialize};
/// use tidegate::{
///     app::{App, Client},
///     gateway::Gateway,
///     problem::Problem,
///     server::Server,
///     settings::Settings,
/// };
///
/// #[derive(Serialize, Deserialize)]
/// struct Circle {
///     x: f64,
///     y: f64,
/// }
///
/// # async fn run() -> std::io::Result<()> {
/// let app = App::new().call("add-circle", |who: Client, circle: Circle| async move {
///     who.everyone().send("add-circle", &circle).await
/// });
/// let gateway = Gateway::start_with(Settings::default(), app)?;
/// Server::bind(gateway.clone())?.run(|_| {}).await?;
/// gateway.close();
/// # Ok(())
/// # }
/// ```
#[derive(Default)]
pub struct App {
    calls: BTreeMap<String, Answering>,
    guards: Vec<(String, Guard)>,
    on_connect: Option<Visit>,
    on_disconnect: Option<Visit>,
}

/// What answers a call.
enum Answering {
    Handler(Handler),
    Job(Arc<JobWork>),
}

/// An application at work: its guards with their topics.
struct Running {
    app: App,
    guards: Vec<Matchers>,
}

impl App {
    /// Creates an application without handlers.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Answers calls of this name. The data is deserialized for the handler, and what it returns is
    /// serialized for the client; an error is the problem that the client gets.
    ///
    /// ```
    /// use tidegate::{app::{App, Client}, problem::Problem};
    ///
    /// let app = App::new().call("add", |_: Client, (a, b): (i64, i64)| async move {
    ///     a.checked_add(b).ok_or_else(|| Problem::field("data", "the sum is too large"))
    /// });
    /// ```
    #[must_use]
    pub fn call<T, R, F>(
        mut self,
        name: &str,
        handler: impl Fn(Client, T) -> F + Send + Sync + 'static,
    ) -> Self
    where
        T: DeserializeOwned + 'static,
        R: Serialize,
        F: Future<Output = Result<R, Problem>> + Send + 'static,
    {
        let handler: Handler = Box::new(move |client: Client, data| {
            let called = client.read(data).map(|data| handler(client, data));
            Box::pin(async move {
                let returned = called?.await?;
                serde_json::to_value(returned)
                    .map_err(|error| Problem::internal(format!("the answer is not JSON: {error}")))
            })
        });
        self.calls.insert(name.to_owned(), Answering::Handler(handler));
        self
    }

    /// Answers calls of this name by a job: a caller that does not want to wait any longer gets its
    /// address, with progress, log and a page.
    ///
    /// ```
    /// use tidegate::{app::{App, Client}, jobs::{JobHandle, JobResult}};
    ///
    /// let app = App::new().job("clone", |_: Client, url: String, job: JobHandle| async move {
    ///     job.log(&url).await.ok();
    ///     Ok(JobResult::link("/repositories/7"))
    /// });
    /// ```
    #[must_use]
    pub fn job<T, F>(
        mut self,
        name: &str,
        work: impl Fn(Client, T, JobHandle) -> F + Send + Sync + 'static,
    ) -> Self
    where
        T: DeserializeOwned + 'static,
        F: Future<Output = Result<JobResult, Problem>> + Send + 'static,
    {
        let work: JobWork = Box::new(move |client: Client, data, job| {
            let called = client.read(data).map(|data| work(client, data, job));
            Box::pin(async move { called?.await })
        });
        self.calls.insert(name.to_owned(), Answering::Job(Arc::new(work)));
        self
    }

    /// Asks `guard` before a client joins, sends to, or changes the state of a topic that the URL
    /// pattern matches. It may change what is asked, or refuse it. It never allows more than the
    /// `[[topics]]` table does.
    ///
    /// ```
    /// use tidegate::{app::{App, Ask, Client}, problem::Problem};
    ///
    /// let app = App::new().guard("/rooms/:id", |who: Client, ask: Ask| async move {
    ///     match ask {
    ///         Ask::Send { .. } if who.user().is_none() => {
    ///             Err(Problem::conflict("guests may only listen"))
    ///         }
    ///         ask => Ok(ask),
    ///     }
    /// });
    /// ```
    #[must_use]
    pub fn guard<F>(
        mut self,
        topics: &str,
        guard: impl Fn(Client, Ask) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Result<Ask, Problem>> + Send + 'static,
    {
        let guard: Guard = Box::new(move |client, ask| Box::pin(guard(client, ask)));
        self.guards.push((topics.to_owned(), guard));
        self
    }

    /// Runs before the first action of each client. An error refuses the client.
    ///
    /// ```
    /// use tidegate::app::{App, Client};
    ///
    /// let app = App::new().on_connect(|who: Client| async move {
    ///     who.set(serde_json::json!({ "greeting": "hi" })).await.map(drop)
    /// });
    /// ```
    #[must_use]
    pub fn on_connect<F>(mut self, visit: impl Fn(Client) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<(), Problem>> + Send + 'static,
    {
        self.on_connect = Some(Box::new(move |client| Box::pin(visit(client))));
        self
    }

    /// Runs after the end of each client, when its time to return is over.
    ///
    /// ```
    /// use tidegate::app::{App, Client};
    ///
    /// let app = App::new().on_disconnect(|who: Client| async move {
    ///     who.everyone().send("gone", &who.id()).await.map(drop)
    /// });
    /// ```
    #[must_use]
    pub fn on_disconnect<F>(mut self, visit: impl Fn(Client) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<(), Problem>> + Send + 'static,
    {
        self.on_disconnect = Some(Box::new(move |client| Box::pin(visit(client))));
        self
    }
}

impl Gateway {
    /// Starts a gateway with an application behind it.
    ///
    /// # Errors
    /// As [`Gateway::start`], or if the pattern of a guard is malformed.
    pub fn start_with(settings: Settings, app: App) -> io::Result<Self> {
        let gateway = Self::start(settings)?;
        let (hub, limits) = (gateway.hub_url().clone(), gateway.matcher_limits());
        let guards = app.guards.iter().map(|(pattern, _)| {
            let matcher = Matcher::parse(MatcherKind::UrlPattern, pattern, &hub, limits);
            Ok(Matchers::new([matcher.map_err(|invalid| {
                io::Error::new(io::ErrorKind::InvalidInput, format!("a guard: {invalid}"))
            })?]))
        });
        let guards = guards.collect::<io::Result<_>>()?;
        gateway.set_application(Running { app, guards }, Self::dismissed);
        Ok(gateway)
    }

    /// The application behind the gateway.
    fn running(&self) -> Option<&Running> {
        self.application()
    }
}

impl Running {
    /// The guards of a topic.
    fn guards_of(&self, topic: &Topic) -> impl Iterator<Item = &Guard> {
        let guards = self.app.guards.iter().zip(&self.guards);
        guards.filter(|(_, matchers)| matchers.matches(topic)).map(|((_, guard), _)| guard)
    }
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let guards: Vec<&String> = self.guards.iter().map(|(topics, _)| topics).collect();
        let calls: Vec<&String> = self.calls.keys().collect();
        f.debug_struct("App").field("calls", &calls).field("guards", &guards).finish()
    }
}
