//! Subcommands and flags.

use std::{
    env,
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use clap::{Args, Parser, Subcommand};
use jiff::Timestamp;
use jsonwebtoken::Algorithm;
use tidegate_core::{
    history::store::{self, StoreError},
    matching::MatcherKind,
};

use crate::{
    auth::{self, Dialect, Order},
    gateway::{self, Gateway},
    server::{Listeners, Server},
    settings::{Compat, DurabilityKind, Settings, Source, StoreKind, load},
    telemetry,
};

/// A push gateway: post an update once, and every subscribed browser receives it.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    flags: Flags,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway (the default without a subcommand).
    Serve,
    /// Check the settings and print those in effect.
    Check,
    /// Maintain the store on disk (history.path) while no gateway uses it.
    #[command(subcommand)]
    Store(StoreCommand),
    /// Measure a gateway, or any Mercure hub: hold subscribers, publish, and report what arrived
    /// and what it cost.
    Bench(Box<tidegate_bench::Flags>),
    /// Create an access token, or explain what one is valid for.
    #[command(subcommand)]
    Token(AccessTokenCommand),
}

#[derive(Debug, Clone, Copy, Subcommand)]
enum StoreCommand {
    /// Summarize its contents.
    Info,
    /// Read all of it, and report whether it is intact.
    Verify,
    /// Reduce its file to the least size.
    Compact,
    /// Write its events and jobs to standard output, as lines of JSON; damaged ones are left out.
    Export,
    /// Create a store from an export on standard input, all of it or nothing.
    Import {
        /// Accept an export of format 1, which has no last line, so that a truncated one goes
        /// unnoticed.
        #[arg(long)]
        without_end: bool,
    },
}

#[derive(Debug, Subcommand)]
enum AccessTokenCommand {
    /// Create an access token with a key of the settings, or with your own private key, and print
    /// it.
    Mint(Mint),
    /// Print the rules for a token, what it grants, and why it would be refused.
    Explain {
        /// The access token; without it, standard input is read.
        #[arg(value_name = "TOKEN")]
        access_token: Option<String>,
    },
}

#[derive(Debug, Args)]
struct Mint {
    /// What the bearer may publish under: a topic, a pattern, or * for everything. May be repeated.
    #[arg(long, value_name = "MATCHER")]
    publish: Vec<String>,
    /// Private events the bearer may receive: a topic, a pattern, or * for all. May be repeated.
    #[arg(long, value_name = "MATCHER")]
    subscribe: Vec<String>,
    /// The type of these matchers: exact, urlpattern or uritemplate.
    #[arg(long, value_name = "TYPE", default_value = "exact", value_parser = matcher_kind)]
    match_type: MatcherKind,
    /// Create a token of the old dialect (0.x) even if there is an issuer.
    #[arg(long)]
    old: bool,
    /// The issuer, one of auth.issuers; the first one if not given.
    #[arg(long, value_name = "NAME", conflicts_with = "old")]
    issuer: Option<String>,
    /// The audience; the hub's address if not given.
    #[arg(long, value_name = "URL", conflicts_with = "old")]
    audience: Option<String>,
    /// Time until the token expires.
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = lifetime)]
    expires: Duration,
    /// A file with the private key, for algorithms that have one.
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// The signature algorithm, if not that of the settings.
    #[arg(long, value_name = "NAME")]
    algorithm: Option<Algorithm>,
}

impl Mint {
    fn into_order(self) -> Order {
        Order {
            publish: self.publish,
            subscribe: self.subscribe,
            kind: self.match_type,
            dialect: self.old.then_some(Dialect::Old),
            issuer: self.issuer,
            audience: self.audience,
            lifetime: self.expires,
            key_file: self.key_file,
            algorithm: self.algorithm,
        }
    }
}

fn matcher_kind(name: &str) -> Result<MatcherKind, String> {
    MatcherKind::from_type(name)
        .ok_or_else(|| "it is none of exact, urlpattern, uritemplate".to_owned())
}

fn lifetime(text: &str) -> Result<Duration, String> {
    let time = text.parse::<jiff::SignedDuration>().map_err(|error| error.to_string())?;
    time.try_into().map_err(|_| "it is less than nothing".to_owned())
}

#[derive(Debug, Args)]
struct Flags {
    /// Configuration file; without it `tidegate.toml` in the working directory, if it exists.
    #[arg(long, global = true, env = "TIDEGATE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address to listen on (server.listen), such as 127.0.0.1:3000 or localhost:3000, or several
    /// separated by commas.
    #[arg(long, global = true, value_name = "ADDRESS")]
    listen: Option<String>,
    /// In development mode let pages of loopback origins write as well (cors.loopback_writes).
    #[arg(long, global = true)]
    loopback_writes: bool,
    /// What to log (log.filter).
    #[arg(long, global = true, value_name = "FILTER")]
    log: Option<String>,
    /// How to log: text or json (log.format).
    #[arg(long, global = true, value_name = "FORMAT")]
    log_format: Option<String>,
}

impl Flags {
    fn into_source(self) -> Source {
        let flags = [
            ("server.listen", self.listen),
            ("cors.loopback_writes", self.loopback_writes.then(|| "true".to_owned())),
            ("log.filter", self.log),
            ("log.format", self.log_format),
        ];
        Source {
            file: self.config,
            environment: env::vars_os()
                .filter_map(|(name, value)| {
                    Some((name.into_string().ok()?, value.into_string().ok()?))
                })
                .collect(),
            flags: flags.into_iter().filter_map(|(key, value)| Some((key, value?))).collect(),
        }
    }
}

/// Runs the command line. Returns the exit status.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match cli.command.unwrap_or(Command::Serve) {
        Command::Serve => settings(cli.flags).and_then(serve),
        Command::Check => settings(cli.flags).and_then(|it| check(&it)),
        Command::Store(command) => settings(cli.flags).and_then(|it| look_after(command, &it)),
        Command::Bench(flags) => measure(&flags),
        Command::Token(AccessTokenCommand::Mint(order)) => {
            settings(cli.flags).and_then(|it| mint(&it, order))
        }
        Command::Token(AccessTokenCommand::Explain { access_token }) => {
            settings(cli.flags).and_then(|it| explain(&it, access_token))
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("tidegate: {message}");
            ExitCode::FAILURE
        }
    }
}

fn settings(flags: Flags) -> Result<Settings, String> {
    let settings = load(flags.into_source()).map_err(|error| error.to_string())?;
    auth::check_keys(&settings)?;
    Ok(settings)
}

fn check(settings: &Settings) -> Result<(), String> {
    for doubt in auth::doubts(settings) {
        eprintln!("tidegate: warning: {doubt}");
    }
    if settings.mercure.compat == Compat::Auto {
        let meaning = match settings.speaks_old_dialect() {
            true => "both dialects, since old clients can have access here",
            false => "draft-08 alone, since there are issuers and no key of [auth]",
        };
        print(&format!("# mercure.compat = \"auto\" means: {meaning}\n"));
    }
    print(&toml::to_string(settings).map_err(|error| error.to_string())?);
    Ok(())
}

fn look_after(command: StoreCommand, settings: &Settings) -> Result<(), String> {
    telemetry::start(&settings.log).map_err(|error| error.to_string())?;
    let options = settings.history.disk(settings);
    let options = options.map_err(|error| error.to_string())?;
    let told = match command {
        StoreCommand::Info => store::info(&options),
        StoreCommand::Verify => store::verify(&options),
        StoreCommand::Compact => store::compact(&options),
        StoreCommand::Export => {
            let mut output = io::BufWriter::new(io::stdout().lock());
            store::export(&options, &mut output)
                .and_then(|()| Ok(output.flush()?))
                .map(|()| String::new())
        }
        StoreCommand::Import { without_end } => {
            store::import(&options, io::stdin().lock(), without_end)
        }
    };
    print(&told.map_err(|error| match error {
        StoreError::Disk(error) => gateway::unusable(&error),
        other => other.to_string(),
    })?);
    Ok(())
}

fn measure(flags: &tidegate_bench::Flags) -> Result<(), String> {
    let report = tidegate_bench::run(flags).map_err(|error| error.to_string())?;
    if flags.json {
        let json = serde_json::to_string_pretty(&report).map_err(|error| error.to_string())?;
        print(&format!("{json}\n"));
    } else {
        print(&report.to_string());
    }
    report.fault().map_or(Ok(()), Err)
}

fn mint(settings: &Settings, order: Mint) -> Result<(), String> {
    let access_token = auth::mint(settings, &order.into_order(), Timestamp::now())?;
    print(&format!("{access_token}\n"));
    Ok(())
}

fn explain(settings: &Settings, access_token: Option<String>) -> Result<(), String> {
    let access_token = match access_token {
        Some(access_token) => access_token,
        None => io::read_to_string(io::stdin()).map_err(|error| error.to_string())?,
    };
    let access_token = access_token.trim();
    let system = actix_web::rt::System::new();
    print(&system.block_on(auth::explain(settings, access_token, Timestamp::now()))?);
    Ok(())
}

fn serve(settings: Settings) -> Result<(), String> {
    telemetry::start(&settings.log).map_err(|error| error.to_string())?;
    for doubt in auth::doubts(&settings) {
        tracing::warn!("{doubt}");
    }
    // An existing store is opened first: its gateway may be stopping, and still have the addresses.
    // A new one is created only when they are free.
    let has_store = settings.history.store == StoreKind::Disk && settings.history.path.exists();
    let bind = |settings: &Settings| Listeners::bind(settings).map_err(|error| error.to_string());
    let early = if has_store { None } else { Some(bind(&settings)?) };
    let gateway = Gateway::start(settings).map_err(|error| error.to_string())?;
    let listeners = early.map_or_else(|| bind(gateway.settings()), Ok)?;
    let server = Server::new(gateway.clone(), listeners);
    greet(&gateway, &server);
    let system = actix_web::rt::System::new();
    let outcome = system.block_on(server.run(|_| {})).map_err(|error| error.to_string());
    gateway.close();
    outcome
}

/// Prints the URLs, who has access, and where events are kept.
fn greet(gateway: &Gateway, server: &Server) {
    let mut text = format!("tidegate {}\n", env!("CARGO_PKG_VERSION"));
    for url in server.urls() {
        text += &format!("  open     {url}\n");
        tracing::info!(url, "listening");
    }
    for url in server.operations_urls() {
        text += &format!("  operate  {url}metrics\n");
        tracing::info!(url, "listening for operators");
    }
    let settings = gateway.settings();
    text += match (settings.auth.is_development(), settings.server.open_to_everybody) {
        (true, true) => {
            "  access   development mode, no keys: every client that reaches these addresses may publish and subscribe;\n"
        }
        (true, false) => {
            "  access   development mode, no keys: every program on this machine may publish and subscribe;\n"
        }
        (false, _) if settings.auth.anonymous => {
            "  access   with tokens; public events without one\n"
        }
        (false, _) => "  access   with tokens only\n",
    };
    if settings.auth.is_development() {
        text += match settings.cors.loopback_writes {
            true => "           pages of loopback origins may, too (cors.loopback_writes);\n",
            false => {
                "           pages of loopback origins may only read (--loopback-writes lets them publish);\n"
            }
        };
        text += "           pages of other origins may not, unless cors.origins names them\n";
    }
    text += &format!("  history  {}\n", kept(settings));
    print(&text);
}

/// Describes where events and jobs are kept, and how safe they are there.
fn kept(settings: &Settings) -> String {
    let history = &settings.history;
    let iec = |bytes: usize| bytesize::ByteSize::b(bytes as u64).display().iec();
    match history.store {
        StoreKind::Memory => {
            return format!(
                "in memory, up to {}; gone with this process, jobs as well",
                iec(history.memory_bytes)
            );
        }
        StoreKind::Redis => {
            let (address, bytes) = (&settings.cluster.redis, iec(history.memory_bytes));
            return format!("in {address}, up to {bytes}, and read by each node into its memory");
        }
        StoreKind::Disk => {}
    }
    let path = std::path::absolute(&history.path).unwrap_or_else(|_| history.path.clone());
    let safety = match history.durability {
        DurabilityKind::Sync => "synced before a publisher is answered".to_owned(),
        DurabilityKind::Interval => {
            format!("synced every {:?}; a crash loses what came since", history.sync_interval)
        }
    };
    format!("in {}, up to {}; {safety}", path.display(), iec(history.max_bytes))
}

/// Prints to standard output, and ignores a reader that has gone.
fn print(text: &str) {
    let _ = io::stdout().write_all(text.as_bytes());
}
