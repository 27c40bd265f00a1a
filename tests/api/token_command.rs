use std::{
    io::Write as _,
    process::{Output, Stdio},
};

use crate::support::{
    Gateway, program,
    tokens::{ISSUER, KEYS, modern_claims, old_subscriber, sign, trusting},
};

fn token(arguments: &[&str], variables: &[(&str, &str)], input: &str) -> Output {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut command = program();
    command.current_dir(&directory).arg("token").args(arguments);
    command.envs(variables.iter().map(|(key, value)| (format!("TIDEGATE_{key}"), value)));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = command.spawn().expect("the program runs");
    // It may have ended without reading.
    let _ = process.stdin.take().expect("a pipe").write_all(input.as_bytes());
    process.wait_with_output().expect("output")
}

fn printed(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).expect("text").trim_end().to_owned()
}

#[tokio::test]
async fn what_is_minted_is_good_in_both_dialects() {
    let file = trusting(ISSUER);
    let path = file.path().to_str().expect("text");
    let variables = [KEYS[0], KEYS[1], KEYS[2], ("CONFIG", path)];
    let gateway = Gateway::with(&variables);
    let pattern = ["--match-type", "urlpattern"];
    for more in [&["--old"][..], &[], &pattern] {
        let arguments = [&["mint", "--publish", "/a"], more].concat();
        let minted = printed(&token(&arguments, &variables, ""));
        assert_eq!(gateway.post_as(&minted, &[("topic", "/a")]).await.status(), 200, "{more:?}");
        assert_eq!(gateway.post_as(&minted, &[("topic", "/b")]).await.status(), 403, "{more:?}");
        let explained = printed(&token(&["explain"], &variables, &minted));
        assert!(explained.contains("`/a`"), "{explained}");
        assert!(explained.contains("subscribing refused: its signature"), "{explained}");
    }
    let minted = printed(&token(&["mint", "--subscribe", "*"], &variables, ""));
    assert_eq!(gateway.get_as(&minted, "/poll?match=t&wait=0").await.status(), 200);
}

#[test]
fn an_explanation_says_why_a_token_would_be_refused() {
    let file = trusting(ISSUER);
    let path = file.path().to_str().expect("text");
    let variables = [KEYS[0], KEYS[1], KEYS[2], ("CONFIG", path)];
    let mut claims = modern_claims("subscribe", &[("exact", "*")]);
    claims["aud"] = "https://other.example".into();
    for (text, named) in [
        (sign(Some("at+jwt"), &claims, KEYS[1].1), "audience"),
        (old_subscriber(&["https://example.com/{id}"]), "grants topic `https://example.com/{id}`"),
        (sign(None, &serde_json::json!({ "exp": 1 }), KEYS[1].1), "expired"),
    ] {
        let explained = printed(&token(&["explain", &text], &variables, ""));
        assert!(explained.contains(named), "{explained}");
        assert!(!explained.contains(KEYS[1].1), "{explained}");
    }
    for (arguments, named) in [
        (&["explain", "garbage"][..], "not a JWT"),
        (&["mint"], "nothing to grant"),
        (&["mint", "--publish", "a", "--subscribe", "b"], "different keys"),
        (&["mint", "--publish", "a", "--issuer", "x"], "auth.issuers"),
        (&["mint", "--publish", "a", "--algorithm", "ES256"], "--key-file"),
    ] {
        let output = token(arguments, &variables, "");
        assert!(!output.status.success());
        let complaint = String::from_utf8(output.stderr).expect("text");
        assert!(complaint.contains(named), "{complaint}");
    }
    let output = token(&["explain", "a.b.c"], &[], "");
    assert!(String::from_utf8(output.stderr).expect("text").contains("no keys"));
}
