//! Environment variables of other hubs' container images, so that a compose file need not change:
//! `MERCURE_…` and `SERVER_NAME`.
//!
//! An unsupported directive is an error that names it, because an ignored directive could be one
//! that restricts access.

use std::{collections::HashMap, path::Path};

use config::Value;

/// The longest deadline (24 days), used where zero means "for ever" in other hubs.
const FOREVER: &str = "576h";

/// Variables that configure the server around another hub. tidegate has no such server.
const FOREIGN: [&str; 3] =
    ["CADDY_EXTRA_CONFIG", "CADDY_SERVER_EXTRA_DIRECTIVES", "GLOBAL_OPTIONS"];

/// A key and its value.
type Setting = (&'static str, Value);

/// Returns the settings that the environment names in other hubs' terms, or none without such a
/// name.
///
/// # Errors
/// What is unsupported, in one sentence.
pub(super) fn settings(environment: &HashMap<String, String>) -> Result<Vec<Setting>, String> {
    let variable =
        |name: &str| environment.get(name).map(|it| it.trim()).filter(|it| !it.is_empty());
    for name in ["MERCURE_PUBLISHER_JWT_KEY", "MERCURE_SUBSCRIBER_JWT_KEY"] {
        if environment.get(name).is_some_and(|it| it.trim().is_empty()) {
            return Err(format!("{name} is set, but it is empty; give it a value, or unset it"));
        }
    }
    let mut settings: Vec<Setting> = Vec::new();
    for (name, key) in [
        ("MERCURE_PUBLISHER_JWT_KEY", "auth.publisher_key"),
        ("MERCURE_PUBLISHER_JWT_ALG", "auth.publisher_algorithm"),
        ("MERCURE_SUBSCRIBER_JWT_KEY", "auth.subscriber_key"),
        ("MERCURE_SUBSCRIBER_JWT_ALG", "auth.subscriber_algorithm"),
    ] {
        settings.extend(variable(name).map(|it| (key, it.into())));
    }
    if let Some(names) = variable("MERCURE_TRUSTED_ISSUERS") {
        let names = names.split([',', ' ', '\t', '\n', '\r']).filter(|it| !it.is_empty());
        let issuer = |it: &str| HashMap::from([("name".to_owned(), Value::from(it))]).into();
        settings.push(("auth.issuers", names.map(issuer).collect::<Vec<Value>>().into()));
    }
    if let Some(text) = variable("MERCURE_EXTRA_DIRECTIVES") {
        let named = |error| format!("MERCURE_EXTRA_DIRECTIVES: {error}");
        for directive in parse(text).map_err(named)? {
            settings.extend(follow(&directive).map_err(named)?);
        }
    }
    // Names that other software also uses count only together with the hub's own.
    if settings.is_empty() {
        return Ok(settings);
    }
    if let Some(name) = FOREIGN.into_iter().find(|it| variable(it).is_some()) {
        return Err(format!("{name} configures a server that is not part of tidegate; remove it"));
    }
    if let Some(names) = variable("SERVER_NAME") {
        settings.extend(addresses(names)?);
    }
    Ok(settings)
}

/// A directive with its arguments and the directives of its block.
#[derive(Debug, PartialEq, Eq)]
struct Directive {
    name: String,
    arguments: Vec<String>,
    block: Vec<Self>,
}

impl Directive {
    fn argument(&self) -> Result<&str, String> {
        match self.arguments.as_slice() {
            [one] => Ok(one),
            _ => Err(format!("`{}` takes one value", self.name)),
        }
    }

    fn origins(&self) -> Result<Value, String> {
        if self.arguments.is_empty() {
            return Err(format!("`{}` names no origin", self.name));
        }
        Ok(self.arguments.clone().into())
    }

    fn time(&self) -> Result<Value, String> {
        let time = self.argument()?;
        Ok(if matches!(time, "0" | "0s") { FOREVER.into() } else { time.into() })
    }
}

fn follow(directive: &Directive) -> Result<Vec<Setting>, String> {
    let name = directive.name.as_str();
    if !directive.block.is_empty() && name != "transport" {
        return Err(format!("`{name}` with a block is not one that tidegate follows"));
    }
    Ok(match name {
        "anonymous" => vec![("auth.anonymous", true.into())],
        "subscriptions" => vec![("mercure.subscriptions", true.into())],
        "cors_origins" => {
            let may_name = directive.arguments.iter().all(|it| it != "*");
            vec![("cors.origins", directive.origins()?), ("cors.credentials", may_name.into())]
        }
        "publish_origins" => vec![("auth.publish_origins", directive.origins()?)],
        "heartbeat" => vec![("delivery.heartbeat", directive.time()?)],
        "write_timeout" => vec![("delivery.lifetime", directive.time()?)],
        "cookie_name" => vec![("auth.cookie", directive.argument()?.into())],
        "transport" => transport(directive)?,
        _ => return Err(format!("the directive `{name}` is not one that tidegate follows")),
    })
}

/// Where events are kept. The store is placed beside the other hub's file, which cannot be read.
fn transport(directive: &Directive) -> Result<Vec<Setting>, String> {
    let mut settings: Vec<Setting> = match directive.argument()? {
        "bolt" => vec![("history.store", "disk".into())],
        "local" => vec![("history.store", "memory".into())],
        other => return Err(format!("the transport `{other}` is not one that tidegate has")),
    };
    for option in &directive.block {
        match option.name.as_str() {
            "path" => {
                let directory = Path::new(option.argument()?).parent().unwrap_or(Path::new(""));
                let path = directory.join("tidegate");
                settings.push(("history.path", path.to_string_lossy().into_owned().into()));
            }
            "size" => {
                let size: i64 = option.argument()?.parse().map_err(|_| "`size` is no number")?;
                // Zero means no limit in other hubs.
                let size = if size == 0 { i64::MAX } else { size };
                settings.push(("history.max_events", size.into()));
            }
            other => {
                return Err(format!("the transport's `{other}` is not one that tidegate follows"));
            }
        }
    }
    Ok(settings)
}

/// The listening addresses. A host name without `http://` requests a certificate.
fn addresses(names: &str) -> Result<Vec<Setting>, String> {
    let mut listen = Vec::new();
    let mut settings = Vec::new();
    for name in names.split([',', ' ']).filter(|it| !it.is_empty()) {
        let (is_plain, rest) = match name.strip_prefix("http://") {
            Some(rest) => (true, rest.trim_end_matches('/')),
            None => (false, name),
        };
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) => (host, port),
            None => (rest, "80"),
        };
        let port: u16 = port.parse().map_err(|_| format!("SERVER_NAME: `{name}` has no port"))?;
        if !is_plain && (!host.is_empty() || port == 443) {
            return Err(format!(
                "SERVER_NAME: `{name}` asks for TLS, for which tidegate has no certificate; let a proxy do TLS and set \
                 SERVER_NAME to `:80`, or to `http://` and the name"
            ));
        }
        listen.push(format!("0.0.0.0:{port}"));
        if !host.is_empty() {
            settings.push(("server.public_url", Value::from(format!("http://{rest}"))));
        }
    }
    listen.dedup();
    settings.push(("server.listen", listen.join(",").into()));
    Ok(settings)
}

/// Parses directives: one per line, words separated by white space or quoted, blocks in braces,
/// comments after `#`.
fn parse(text: &str) -> Result<Vec<Directive>, String> {
    let mut lines = text.lines().map(Line::parse);
    let mut directives = Vec::new();
    while let Some(line) = lines.next() {
        let line = line?;
        let opens_block = line.brace == Some('{');
        let Some(mut directive) = line.into_directive()? else { continue };
        if opens_block {
            directive.block = parse_block(&mut lines)?;
        }
        directives.push(directive);
    }
    Ok(directives)
}

fn parse_block(
    lines: &mut impl Iterator<Item = Result<Line, String>>,
) -> Result<Vec<Directive>, String> {
    let mut block = Vec::new();
    for line in lines {
        let line = line?;
        match line.brace {
            Some('}') => return Ok(block),
            Some(_) => return Err("a block is within another".to_owned()),
            None => block.extend(line.into_directive()?),
        }
    }
    Err("a block has no end".to_owned())
}

/// The words of a line, and an unquoted brace at its end.
#[derive(Debug, Default)]
struct Line {
    words: Vec<String>,
    brace: Option<char>,
}

impl Line {
    fn parse(text: &str) -> Result<Self, String> {
        let mut line = Self::default();
        let mut rest = text.trim_start();
        while let Some(first) = rest.chars().next().filter(|it| *it != '#') {
            if line.brace.is_some() {
                return Err("a brace is not at the end of its line".to_owned());
            }
            let end = if matches!(first, '"' | '`') {
                let text = &rest[1..];
                let end = text.find(first).ok_or("a quotation has no end")?;
                line.words.push(text[..end].to_owned());
                end + 2
            } else {
                let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
                match &rest[..end] {
                    "{" | "}" => line.brace = Some(first),
                    word => line.words.push(word.to_owned()),
                }
                end
            };
            rest = rest[end..].trim_start();
        }
        Ok(line)
    }

    fn into_directive(self) -> Result<Option<Directive>, String> {
        let mut words = self.words.into_iter();
        match (words.next(), self.brace) {
            (None, None) => Ok(None),
            (Some(name), None | Some('{')) => {
                Ok(Some(Directive { name, arguments: words.collect(), block: Vec::new() }))
            }
            (_, Some(brace)) => Err(format!("there is a `{brace}` too many")),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn with(variables: &[(&str, &str)]) -> Result<HashMap<&'static str, String>, String> {
        let environment = variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        let settings = settings(&environment.collect())?;
        Ok(settings.into_iter().map(|(key, value)| (key, value.to_string())).collect())
    }

    #[test]
    fn keys_and_directives_are_settings() {
        let settings = with(&[
            ("MERCURE_PUBLISHER_JWT_KEY", "!ChangeThisMercureHubJWTSecretKey!"),
            ("MERCURE_SUBSCRIBER_JWT_ALG", "RS256"),
            ("SERVER_NAME", ":80"),
            (
                "MERCURE_EXTRA_DIRECTIVES",
                "cors_origins https://a.test https://b.test # pages\n\n  anonymous\n heartbeat 40s\n\
                 write_timeout 0s\ncookie_name \"my cookie\"\n\
                 transport bolt {\n  path /data/mercure.db\n  size 0\n}\npublish_origins *\r\n",
            ),
        ])
        .expect("valid");
        for (key, value) in [
            ("auth.publisher_key", "!ChangeThisMercureHubJWTSecretKey!"),
            ("auth.subscriber_algorithm", "RS256"),
            ("auth.anonymous", "true"),
            ("auth.cookie", "my cookie"),
            ("cors.credentials", "true"),
            ("delivery.heartbeat", "40s"),
            ("delivery.lifetime", "576h"),
            ("history.store", "disk"),
            ("history.path", "/data/tidegate"),
            ("history.max_events", "9223372036854775807"),
            ("server.listen", "0.0.0.0:80"),
        ] {
            assert_eq!(settings.get(key).map(String::as_str), Some(value), "{key}");
        }
        assert!(settings["cors.origins"].contains("https://b.test"));
        let settings = with(&[
            ("MERCURE_TRUSTED_ISSUERS", "https://a.test, https://b.test"),
            ("SERVER_NAME", "http://hub.test:8080"),
        ])
        .expect("valid");
        assert!(settings["auth.issuers"].contains("https://b.test"));
        assert_eq!(settings["server.listen"], "0.0.0.0:8080");
        assert_eq!(settings["server.public_url"], "http://hub.test:8080");
    }

    #[test]
    fn words_of_others_count_only_beside_the_hubs_own() {
        for variables in [
            &[("SERVER_NAME", "example.com"), ("GLOBAL_OPTIONS", "debug")][..],
            &[("MERCURE_URL", "https://example.com")],
        ] {
            assert_eq!(with(variables), Ok(HashMap::new()));
        }
    }

    #[test]
    fn what_cannot_be_followed_is_named() {
        for (directives, named) in [
            ("topic_matcher_cache 7", "topic_matcher_cache"),
            ("anonymous\ndebugger", "debugger"),
            ("issuer x {\n}", "issuer"),
            ("transport redis", "redis"),
            ("transport bolt {\ncleanup_frequency 1\n}", "cleanup_frequency"),
            ("transport bolt {\nsize x\n}", "size"),
            ("transport bolt {", "end"),
            ("transport bolt { path x", "brace"),
            ("transport bolt {\npath x {\ny\n}\n}", "within"),
            ("anonymous\n}", "`}`"),
            ("{", "`{`"),
            ("heartbeat", "heartbeat"),
            ("cors_origins", "cors_origins"),
            ("cookie_name \"x", "quotation"),
            ("anonymous {\nx\n}", "anonymous"),
        ] {
            let error = with(&[("MERCURE_EXTRA_DIRECTIVES", directives)]).expect_err("refused");
            assert!(error.contains("MERCURE_EXTRA_DIRECTIVES") && error.contains(named), "{error}");
        }
        for name in
            ["example.com", "localhost", "localhost:80", ":443", "https://example.com", ":x"]
        {
            let variables = [("MERCURE_PUBLISHER_JWT_KEY", "k"), ("SERVER_NAME", name)];
            let error = with(&variables).expect_err("refused");
            assert!(error.contains("SERVER_NAME") && error.contains(name), "{error}");
        }
        let error = with(&[("MERCURE_PUBLISHER_JWT_KEY", "k"), ("CADDY_EXTRA_CONFIG", "x")]);
        assert!(error.expect_err("refused").contains("CADDY_EXTRA_CONFIG"));
    }

    proptest! {
        #[test]
        fn any_text_is_directives_or_an_error(text in "[ \\n\"`{}#a-c]{0,40}|.*") {
            let _ = parse(&text);
        }

        #[test]
        fn quoted_words_are_taken_as_they_are(word in "[^\"\\n\\r]{1,20}") {
            let quoted = format!("cookie_name \"{word}\" # comment");
            prop_assert_eq!(&parse(&quoted).expect("valid")[0].arguments, &[word]);
        }
    }
}
