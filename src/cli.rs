//! Subcommands and flags.

use std::{
    env,
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Args, Parser, Subcommand};

use crate::{
    gateway::Gateway,
    history::store,
    server::Server,
    settings::{DurabilityKind, HistorySettings, Settings, Source, StoreKind, load},
    telemetry,
};

/// A push gateway: post an update once, and every browser that listens gets it.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    flags: Flags,
}

#[derive(Debug, Clone, Copy, Subcommand)]
enum Command {
    /// Run the gateway; what happens without a subcommand.
    Serve,
    /// Check the settings and print those in effect.
    Check,
    /// Look after the store on disk (history.path) while no gateway runs on it.
    #[command(subcommand)]
    Store(StoreCommand),
}

#[derive(Debug, Clone, Copy, Subcommand)]
enum StoreCommand {
    /// Say what is in it.
    Info,
    /// Read all of it, and say whether it is whole.
    Verify,
    /// Make its file as small as it can be.
    Compact,
    /// Write its events and jobs to standard output, as lines of JSON; what is damaged is left out.
    Export,
    /// Make a store of what was exported, read from standard input.
    Import,
}

#[derive(Debug, Args)]
struct Flags {
    /// Configuration file; without it `tidegate.toml` in the working directory, if there is one.
    #[arg(long, global = true, env = "TIDEGATE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address to listen on (server.listen), or several separated by commas.
    #[arg(long, global = true, value_name = "ADDRESS")]
    listen: Option<String>,
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

/// Does what the command line says.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    let outcome =
        load(cli.flags.into_source()).map_err(|error| error.to_string()).and_then(|settings| {
            match cli.command.unwrap_or(Command::Serve) {
                Command::Serve => serve(settings),
                Command::Check => check(&settings),
                Command::Store(command) => look_after(command, &settings),
            }
        });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("tidegate: {message}");
            ExitCode::FAILURE
        }
    }
}

fn check(settings: &Settings) -> Result<(), String> {
    print(&toml::to_string(settings).map_err(|error| error.to_string())?);
    Ok(())
}

fn look_after(command: StoreCommand, settings: &Settings) -> Result<(), String> {
    let options = settings.history.disk(
        &settings.publish,
        settings.limits.topic_bytes,
        settings.server.shutdown_timeout,
    );
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
        StoreCommand::Import => store::import(&options, io::stdin().lock()),
    };
    print(&told.map_err(|error| error.to_string())?);
    Ok(())
}

fn serve(settings: Settings) -> Result<(), String> {
    telemetry::start(&settings.log).map_err(|error| error.to_string())?;
    let gateway = Gateway::start(settings).map_err(|error| error.to_string())?;
    let server = Server::bind(gateway.clone()).map_err(|error| error.to_string())?;
    greet(&gateway, &server);
    let system = actix_web::rt::System::new();
    let outcome = system.block_on(server.run(|_| {})).map_err(|error| error.to_string());
    gateway.close();
    outcome
}

/// Tells the operator what to open and what is open to whom.
fn greet(gateway: &Gateway, server: &Server) {
    let mut text = format!("tidegate {}\n", env!("CARGO_PKG_VERSION"));
    for address in server.addresses() {
        text += &format!("  open     http://{address}/\n");
        tracing::info!(%address, "listening");
    }
    let reach = if gateway.settings().server.open_to_everybody {
        "everybody who reaches these addresses"
    } else {
        "everybody on this machine"
    };
    text += &format!(
        "  access   development mode, no keys: {reach} may publish and subscribe;\n           \
         pages of other origins may not, unless cors.origins names them\n  \
         history  {}\n",
        kept(&gateway.settings().history)
    );
    print(&text);
}

/// Where events and jobs are, and how safe they are there.
fn kept(history: &HistorySettings) -> String {
    let iec = |bytes: usize| bytesize::ByteSize::b(bytes as u64).display().iec();
    if history.store == StoreKind::Memory {
        return format!(
            "in memory, up to {}; gone with this process, jobs as well",
            iec(history.memory_bytes)
        );
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

/// Whether anybody reads it is not this program's business.
fn print(text: &str) {
    let _ = io::stdout().write_all(text.as_bytes());
}
