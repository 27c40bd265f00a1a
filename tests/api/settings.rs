use std::process::Output;

use crate::support::program;

fn tidegate(arguments: &[&str], variables: &[(&str, &str)], file: Option<&str>) -> Output {
    let directory = tempfile::tempdir().expect("a temporary directory");
    if let Some(text) = file {
        std::fs::write(directory.path().join("tidegate.toml"), text).expect("a writable directory");
    }
    let mut command = program();
    command.current_dir(&directory).args(arguments).envs(variables.iter().copied());
    command.output().expect("the program runs")
}

/// Returns the one line that says why it did not start.
fn complaint(output: &Output) -> String {
    assert!(!output.status.success());
    let text = String::from_utf8(output.stderr.clone()).expect("text");
    let lines: Vec<&str> = text.lines().filter(|line| line.starts_with("tidegate: ")).collect();
    assert_eq!(lines.len(), 1, "{text}");
    assert!(!text.contains("panicked"), "{text}");
    lines[0].to_owned()
}

#[test]
fn check_prints_what_is_in_effect() {
    let output = tidegate(
        &["check", "--listen", "127.0.0.1:1"],
        &[("TIDEGATE_SERVER__LISTEN", "127.0.0.1:2"), ("TIDEGATE_DELIVERY__HEARTBEAT", "7s")],
        Some("[server]\nlisten = '127.0.0.1:3'\n[delivery]\nheartbeat = '8s'\nretry = '9s'\n"),
    );
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).expect("text");
    for line in [
        "listen = \"127.0.0.1:1\"",
        "heartbeat = \"7s\"",
        "retry = \"9s\"",
        "body_bytes = \"1MiB\"",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
}

#[test]
fn what_check_prints_is_a_configuration() {
    let printed = tidegate(&["check"], &[], None);
    let text = String::from_utf8(printed.stdout).expect("text");
    let again = tidegate(&["check"], &[], Some(&text));
    assert_eq!(String::from_utf8(again.stdout).expect("text"), text);
}

#[test]
fn mistakes_are_one_sentence_and_a_failure() {
    for (arguments, variables, file, named) in [
        (&["--listen", "nowhere"][..], &[][..], None, "nowhere"),
        (&["--config", "missing.toml"], &[], None, "missing.toml"),
        (&["--log-format", "xml"], &[], None, "xml"),
        (&["--log", "a=b=c"], &[], None, "log.filter"),
        (&["--listen", "0.0.0.0:0"], &[], None, "open_to_everybody"),
        (&["check"], &[("TIDEGATE_LIMITS__BODY", "1MiB")], None, "body"),
        (&["check"], &[("TIDEGATE_CONFIG", "missing.toml")], None, "missing.toml"),
        (&["check"], &[], Some("[serve]\nlisten = 'x'"), "serve"),
        (
            &["check"],
            &[],
            Some("[[history.rules]]\nmax_age = '1m'"),
            "0 of the keys `topic`, `match_urlpattern`, `match_uritemplate`",
        ),
        (
            &["check"],
            &[],
            Some(
                "[[history.rules]]\ntopic = 'a'\n[[history.rules]]\ntopic = 'a'\nmatch_uritemplate = 'b'",
            ),
            "history.rules[1] has 2",
        ),
        (
            &["check"],
            &[],
            Some("[[history.rules]]\nmatch_uritemplate = 'a/{'"),
            "`match_uritemplate` is not a URI template",
        ),
        (
            &["check"],
            &[],
            Some("[[history.rules]]\nmatch_urlpattern = '/(['"),
            "`match_urlpattern` is not a URL pattern",
        ),
        (&["check"], &[], Some("[server]\nlisten = 3"), "listen"),
    ] {
        let complaint = complaint(&tidegate(arguments, variables, file));
        assert!(complaint.contains(named), "{named} in {complaint}");
    }
}

#[test]
fn a_compose_file_for_the_reference_hub_works() {
    let directives =
        "cors_origins https://app.example\nanonymous\nheartbeat 40s\nwrite_timeout 600s\n";
    let variables = [
        ("SERVER_NAME", ":8080"),
        ("MERCURE_PUBLISHER_JWT_KEY", "hidden-from-everyone-who-looks-on"),
        ("MERCURE_SUBSCRIBER_JWT_KEY", "01234567890123456789012345678901"),
        ("MERCURE_SUBSCRIBER_JWT_ALG", "HS512"),
        ("MERCURE_TRUSTED_ISSUERS", "https://issuer.example"),
        ("MERCURE_EXTRA_DIRECTIVES", directives),
        ("TIDEGATE_SERVER__PUBLIC_URL", "https://hub.example"),
        ("TIDEGATE_DELIVERY__HEARTBEAT", "7s"),
    ];
    let output = tidegate(&["check"], &variables, Some("[auth]\nanonymous = false\n"));
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("text");
    for line in [
        "listen = \"0.0.0.0:8080\"",
        "anonymous = true",
        "publisher_key = \"(hidden)\"",
        "subscriber_algorithm = \"HS512\"",
        "name = \"https://issuer.example\"",
        "origins = [\"https://app.example\"]",
        "credentials = true",
        "heartbeat = \"7s\"",
        "lifetime = \"10m\"",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
    assert!(!text.contains("hidden-from"), "{text}");
    for (name, value) in [
        ("MERCURE_PUBLISHER_JWT_KEY", "!ChangeThisMercureHubJWTSecretKey!"),
        ("MERCURE_SUBSCRIBER_JWT_KEY", "0123"),
    ] {
        let weaker: Vec<_> =
            variables.iter().map(|it| if it.0 == name { (name, value) } else { *it }).collect();
        let complaint = complaint(&tidegate(&["check"], &weaker, None));
        assert!(complaint.contains("openssl rand"), "{complaint}");
        let loopback: Vec<_> =
            weaker.iter().map(|it| if it.0 == "SERVER_NAME" { ("X", "") } else { *it }).collect();
        let output = tidegate(&["check"], &loopback, None);
        assert!(output.status.success(), "{output:?}");
        let warnings = String::from_utf8(output.stderr).expect("text");
        assert!(warnings.contains("tidegate: warning: auth."), "{warnings}");
    }
}

#[test]
fn what_of_the_reference_hub_cannot_be_followed_is_named() {
    let key = ("MERCURE_PUBLISHER_JWT_KEY", "key");
    for (variables, named) in [
        (&[key, ("SERVER_NAME", "hub.example")][..], "hub.example"),
        (&[key, ("MERCURE_EXTRA_DIRECTIVES", "dispatch_timeout 5s")], "dispatch_timeout"),
        (&[key, ("MERCURE_PUBLISHER_JWT_ALG", "XS256")], "XS256"),
        (&[key], "auth.subscriber_key"),
        (
            &[
                key,
                ("MERCURE_PUBLISHER_JWT_ALG", "RS256"),
                ("MERCURE_EXTRA_DIRECTIVES", "anonymous"),
            ],
            "auth.publisher_key",
        ),
        (
            &[key, ("MERCURE_SUBSCRIBER_JWT_KEY", "k"), ("MERCURE_TRUSTED_ISSUERS", "a")],
            "auth.audiences",
        ),
    ] {
        let complaint = complaint(&tidegate(&["check"], variables, None));
        assert!(complaint.contains(named), "{named} in {complaint}");
    }
}

#[test]
fn keys_that_cannot_be_right_are_named() {
    for (lines, named) in [
        ("publisher_key = '-----BEGIN PUBLIC KEY-----'", "PEM"),
        ("publisher_key_file = '/nowhere'", "/nowhere"),
        ("publisher_key_file = '/dev/null'", "empty"),
        ("publisher_key = '  '", "empty"),
        ("publisher_key = 'a'\npublisher_key_file = 'b'", "one of"),
        ("publisher_key = 'a'\nalgorithm = 'none'", "none"),
        ("publisher_key = 'a'\npublish_origins = ['https://*.com']", "https://*.com"),
        ("publisher_key = 'a'\n[mercure]\ncompat = 'old'", "old"),
        ("[cors]\norigins = ['*']\ncredentials = true", "cors.credentials"),
        ("[cors]\norigins = ['null']", "null"),
    ] {
        let file = format!("[auth]\nanonymous = true\n{lines}\n");
        let complaint = complaint(&tidegate(&["check"], &[], Some(&file)));
        assert!(complaint.contains(named), "{named} in {complaint}");
    }
    let only_publishers = Some("[auth]\npublisher_key = 'a'\n");
    let complaint = complaint(&tidegate(&["check"], &[], only_publishers));
    assert!(complaint.contains("no client could subscribe"), "{complaint}");
}
