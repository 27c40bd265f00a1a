//! Loads settings from defaults, a file, other hubs' variables, the environment and flags. Later
//! sources override earlier ones.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use config::{Config, Environment, File, FileFormat};

use super::{
    Settings, SettingsError, aliases,
    check::check,
    place::{self, Places},
    wrong,
};

/// The file that is read if it exists and no other is named.
const DEFAULT_FILE: &str = "tidegate.toml";

/// Keys whose values are lists, which the environment separates by commas.
const LISTS: [&str; 7] = [
    "server.trusted_proxies",
    "server.hosts",
    "auth.audiences",
    "auth.publish_origins",
    "cors.origins",
    "mercure.old_token_claims",
    "jobs.result_origins",
];

/// Suffixes of variables whose values are not converted: a secret of digits is not a number.
const SECRETS: [&str; 5] = [
    "__WEBHOOK_SECRET",
    "__WEBHOOK_PREVIOUS_SECRET",
    "__PUBLISHER_KEY",
    "__SUBSCRIBER_KEY",
    "_CLUSTER__PASSWORD",
];

/// Suffixes of variables that name files with secrets.
const SECRET_FILES: [&str; 3] =
    ["__PUBLISHER_KEY_FILE", "__SUBSCRIBER_KEY_FILE", "_CLUSTER__PASSWORD_FILE"];

/// The sources of settings. Later ones override earlier ones.
#[derive(Debug, Default)]
pub struct Source {
    /// A file that must exist. Without it, `tidegate.toml` in the working directory, if it exists.
    pub file: Option<PathBuf>,
    /// The environment of the process.
    pub environment: HashMap<String, String>,
    /// Keys and values from flags.
    pub flags: Vec<(&'static str, String)>,
}

/// Loads and checks the settings.
///
/// ```
/// use tidegate::settings::{Source, load};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// # let file = directory.path().join("feed.toml");
/// std::fs::write(&file, "[server]\nlisten = '127.0.0.1:8080'")?;
/// let environment = std::env::vars().collect();
/// let settings = load(Source { file: Some(file), environment, ..Source::default() })?;
/// assert_eq!(settings.server.listen, ["127.0.0.1:8080".parse()?]);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// If a source cannot be read, has an unknown key or a wrong type, or if the settings contradict
/// each other.
pub fn load(source: Source) -> Result<Settings, SettingsError> {
    let mut places = Places::default();
    let mut builder = Config::builder();
    if let Some(file) = file(source.file) {
        let text = std::fs::read_to_string(&file)
            .map_err(|reason| SettingsError::Unreadable { file: file.clone(), reason })?;
        check_syntax(&file, &text)?;
        builder = builder.add_source(File::from_str(&text, FileFormat::Toml));
        places.file = Some((file, text));
    }
    let unplaced = |error| wrong::describe(&error, None, &Places::default());
    let mut aliases = Config::builder();
    for (key, value) in aliases::settings(&source.environment).map_err(SettingsError::Invalid)? {
        places.variables.push((key.to_owned(), "of the other hub".to_owned()));
        aliases = aliases.set_override(key, value).map_err(unplaced)?;
    }
    builder = builder.add_source(aliases.build().map_err(unplaced)?);
    let variables = variables(source.environment)?;
    // Before those of the other hub, which they override.
    let own = variables.keys().map(|name| (key_of(name), name.clone()));
    places.variables.splice(0..0, own);
    let (secrets, environment) = variables
        .into_iter()
        .partition::<HashMap<_, _>, _>(|(name, _)| SECRETS.iter().any(|it| name.ends_with(it)));
    let mut environment = Environment::with_prefix("TIDEGATE")
        .prefix_separator("_")
        .separator("__")
        .try_parsing(true)
        .list_separator(",")
        .source(Some(environment));
    for key in LISTS {
        environment = environment.with_list_parse_key(key);
    }
    builder = builder.add_source(environment);
    // As overrides they are not parsed, so a secret of digits stays text.
    for (name, value) in secrets {
        builder = builder.set_override(key_of(&name), value).map_err(unplaced)?;
    }
    for (key, value) in source.flags {
        places.flags.push(key);
        builder = builder.set_override(key, value).map_err(unplaced)?;
    }
    let merged = builder.build().map_err(unplaced)?;
    let settings: Settings = merged
        .clone()
        .try_deserialize()
        .map_err(|error| wrong::describe(&error, Some(&merged), &places))?;
    check(&settings).map_err(|error| wrong::with_places(error, &places))?;
    Ok(settings)
}

fn file(named: Option<PathBuf>) -> Option<PathBuf> {
    named.or_else(|| Some(PathBuf::from(DEFAULT_FILE)).filter(|it| it.exists()))
}

/// Checks the syntax first, because the `config` crate reports errors without the file's name.
fn check_syntax(file: &Path, text: &str) -> Result<(), SettingsError> {
    text.parse::<toml::Table>().map(drop).map_err(|error| {
        let line = place::line(text, error.span().unwrap_or_default().start);
        let message = wrong::in_terms_of_quotes(&wrong::one_line(error.message()));
        SettingsError::Invalid(format!("{}, line {line}: {message}", file.display()))
    })
}

/// Returns the key that a variable sets.
fn key_of(variable: &str) -> String {
    variable.trim_start_matches("TIDEGATE_").to_lowercase().replace("__", ".")
}

/// Returns the variables that are settings. Skips `TIDEGATE_CONFIG`, which names the file, and the
/// variables that orchestrators add for a service called tidegate.
fn variables(all: HashMap<String, String>) -> Result<HashMap<String, String>, SettingsError> {
    let mut settings = HashMap::new();
    for (name, value) in all {
        let Some(key) = name.strip_prefix("TIDEGATE_") else { continue };
        let is_service_link =
            key.starts_with("SERVICE_") || key == "PORT" || key.starts_with("PORT_");
        let names_secret = SECRETS.iter().chain(&SECRET_FILES).any(|it| name.ends_with(it));
        if names_secret && value.trim().is_empty() {
            return Err(SettingsError::EmptySecret(name));
        }
        if key.contains("__") {
            settings.insert(name, value);
        } else if key != "CONFIG" && !is_service_link {
            return Err(SettingsError::UnknownVariable(name));
        }
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_variable(name: &str, value: &str) -> Result<Settings, SettingsError> {
        let environment = HashMap::from([(name.to_owned(), value.to_owned())]);
        let nothing = tempfile::NamedTempFile::new().expect("a temporary file");
        load(Source { file: Some(nothing.path().to_owned()), environment, flags: Vec::new() })
    }

    fn with_file(text: &str) -> Result<Settings, SettingsError> {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), text).expect("a writable file");
        load(Source { file: Some(file.path().to_owned()), ..Source::default() })
    }

    #[test]
    fn the_sample_file_documents_every_key_with_its_default() {
        let sample = include_str!("../../tidegate.toml");
        assert_eq!(with_file(sample).expect("valid"), Settings::default());
        let keys = |text: &str| -> Vec<String> {
            let table: toml::Table = text.parse().expect("valid TOML");
            let section = |(name, keys): (&String, &toml::Value)| {
                // What stands beside the sections is a list, such as `topics`.
                let Some(keys) = keys.as_table() else { return vec![name.clone()] };
                keys.keys().map(|key| format!("{name}.{key}")).collect::<Vec<_>>()
            };
            table.iter().flat_map(section).collect()
        };
        let all = toml::to_string(&Settings::default()).expect("settings serialize");
        let (mut documented, mut all) = (keys(sample), keys(&all));
        documented.sort();
        all.sort();
        assert_eq!(documented, all);
    }

    #[test]
    fn variables_set_keys() {
        let settings = with_variable("TIDEGATE_SERVER__LISTEN", "127.0.0.1:4000,[::1]:4000");
        assert_eq!(settings.expect("valid").server.listen.len(), 2);
        let settings = with_variable("TIDEGATE_CORS__ORIGINS", "https://a.test,https://b.test");
        assert_eq!(settings.expect("valid").cors.origins, ["https://a.test", "https://b.test"]);
        let settings = with_variable("TIDEGATE_DELIVERY__HEARTBEAT", "1500ms");
        assert_eq!(settings.expect("valid").delivery.heartbeat.as_millis(), 1500);
        let settings = with_variable("TIDEGATE_LIMITS__BODY_BYTES", "64KiB");
        assert_eq!(settings.expect("valid").limits.body_bytes, 65536);
        assert!(with_variable("TIDEGATE_SERVICE_HOST", "10.0.0.1").is_ok());
    }

    #[test]
    fn secrets_are_not_shown() {
        let text = "[jobs.types.x]\nwebhook = 'https://a.test'\nwebhook_secret = 'open sesame'";
        let settings = with_file(text).expect("valid");
        let printed = toml::to_string(&settings).expect("settings serialize");
        assert!(printed.contains("webhook_secret = \"(hidden)\""), "{printed}");
        let name = "TIDEGATE_JOBS__TYPES__X__WEBHOOK_SECRET";
        let environment = HashMap::from([
            ("TIDEGATE_JOBS__TYPES__X__WEBHOOK".to_owned(), "http://a.test/".to_owned()),
            (name.to_owned(), "0123".to_owned()),
        ]);
        let from_variables =
            load(Source { file: Some("/dev/null".into()), environment, flags: Vec::new() })
                .expect("valid");
        let secret = from_variables.jobs.types["x"].webhook_secret.as_ref();
        assert_eq!(secret.map(crate::settings::Secret::reveal), Some("0123"));
        for shown in [printed, format!("{settings:?}"), format!("{settings:#?}")] {
            assert!(!shown.contains("sesame"), "{shown}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        let message = |outcome: Result<Settings, SettingsError>| match outcome {
            // As the server does before it starts.
            Ok(_) => "valid".to_owned(),
            Err(error) => error.to_string(),
        };
        for (outcome, named) in [
            (with_file("[server]\nlisten = 7"), "listen"),
            (with_file("[server]\nport = 7"), "port"),
            (with_file("[serv]\nlisten = 7"), "serv"),
            (with_file("[server\n"), "line 1"),
            (with_file("[delivery]\nheartbeat = '5 parsecs'"), "5 parsecs"),
            (with_file("[limits]\nbody_bytes = '5 feet'"), "5 feet"),
            (with_file("[limits]\nbody_bytes = '0B'"), "limits.body_bytes"),
            (with_file("[server]\nlisten = '0.0.0.0:80'"), "open_to_everybody"),
            (with_file("[jobs.types.x]\nlease = '0s'"), "jobs.types.x.lease"),
            (
                with_file("[jobs.types.x]\nlease = '2562047788015215h'"),
                "jobs.types.x.lease is longer than 24 days",
            ),
            (with_file("[limits]\nbody_bytes = '2GiB'"), "limits.body_bytes is more than 1 GiB"),
            (with_file("[limits]\ntopic_bytes = '2GiB'"), "limits.topic_bytes is more than 1 GiB"),
            (with_file("[limits]\nid_bytes = '2GiB'"), "limits.id_bytes is more than 1 GiB"),
            (with_file("[limits]\ntype_bytes = '2GiB'"), "limits.type_bytes is more than 1 GiB"),
            (with_file("[jobs.types.x]\nmax_attempts = 0"), "jobs.types.x.max_attempts"),
            (with_file("[jobs.types.x]\nwebhook = 'https://a.test'"), "webhook_secret"),
            (with_file("[jobs.types.x]\nwebhook = 'ftp://a.test'"), "ftp://a.test"),
            (with_file("[jobs.types.x]\nwebhook_secret = 's'"), "jobs.types.x.webhook is"),
            (
                with_file("[jobs.types.x]\nwebhook = 'https://u@a.test'\nwebhook_secret = 's'"),
                "user name",
            ),
            (with_file("[cors]\norigins = ['https://a.test/']"), "https://a.test/"),
            (with_variable("TIDEGATE_SERVER_LISTEN", "x"), "TIDEGATE_SERVER_LISTEN"),
            (with_variable("TIDEGATE_AUTH__PUBLISHER_KEY", ""), "TIDEGATE_AUTH__PUBLISHER_KEY is"),
            (with_variable("TIDEGATE_AUTH__SUBSCRIBER_KEY", " "), "SUBSCRIBER_KEY is set, but"),
            (with_variable("TIDEGATE_AUTH__PUBLISHER_KEY_FILE", ""), "PUBLISHER_KEY_FILE is set"),
            (with_variable("MERCURE_PUBLISHER_JWT_KEY", ""), "MERCURE_PUBLISHER_JWT_KEY is set"),
            (with_variable("MERCURE_SUBSCRIBER_JWT_KEY", "\n"), "MERCURE_SUBSCRIBER_JWT_KEY"),
            (
                with_file(
                    "[auth]\nissuers = [{ name = 'https://a.test' }]\npublisher_key = 'k'\nsubscriber_key = 'k'\n[server]\ntrusted_proxies = ['10.0.0.0/8']",
                ),
                "public_url",
            ),
            (with_variable("TIDEGATE_SERVER__LISTN", "x"), "listn"),
            (with_variable("TIDEGATE_DELIVERY__HEARTBEAT", "soon"), "soon"),
        ] {
            let message = message(outcome);
            assert!(message.contains(named), "{named}: {message}");
            assert!(!message.contains('\n'), "{message}");
        }
    }
}
