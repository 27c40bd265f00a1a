//! A worker's question on the page of its job: it appears, keeps what was typed, and is answered.

use serde_json::{Value, json};

use crate::support::{Gateway, Page, Work, in_browser, in_browser_without_scripts};

const ALL: [&str; 3] = ["sse", "iframe", "poll"];

fn question() -> Value {
    json!({
        "ask": "deploy", "title": "Deploy <b>4f2c</b> to production?",
        "fields": [
            { "name": "go", "type": "confirm", "label": "Deploy" },
            { "name": "when", "type": "choice", "label": "When", "choices": ["now", "in the night"] },
            { "name": "why", "type": "text", "label": "Reason", "required": false, "max": 200 },
        ],
    })
}

fn shows(id: &str, text: &str) -> String {
    format!("return document.getElementById('{id}').innerText === `{text}`")
}

const IS_ASKED: &str = "return document.getElementById('answer') !== null";
const IS_ANSWERED: &str = "return document.getElementById('answer') === null \
    && !document.getElementById('answers').hidden";

async fn text(page: &Page, script: &str) -> String {
    page.run(script).await.as_str().unwrap_or_default().to_owned()
}

async fn open(page: &Page, gateway: &Gateway, id: &str, via: &str) {
    page.open(&format!("{}/jobs/{id}?via={via}", gateway.origin())).await;
    let listens = format!("return document.getElementById('job')?.dataset.via === '{via}'");
    page.until("the page listens", &listens).await;
}

const FILL: &str = "document.querySelector('#answer [name=go][value=yes]').click(); \
    document.querySelector('#answer [name=when][value=now]').click(); \
    document.querySelector('#answer [name=why]').value = 'it is <i>time</i>';";

const SUBMIT: &str = "document.querySelector('#answer .actions button').click()";

#[tokio::test]
async fn a_question_appears_and_its_answer_goes_to_the_worker() {
    in_browser(|page| async move {
        let gateway = Gateway::start(&[]).await;
        page.driver().set_window_size(1000, 900).await.expect("a window");
        for via in ALL {
            let work = Work::begin(&gateway, "Deployment").await;
            work.progress(40, "Testing", "all tests have passed").await;
            open(&page, &gateway, &work.id, via).await;
            page.run("window.isTheSame = true").await;
            work.ask(question()).await;
            page.until("the form", IS_ASKED).await;
            page.until("the state", &shows("state", "Waiting for an answer")).await;
            page.until("the title", "return document.title === '❓ Deployment'").await;
            let icon = "return document.getElementById('icon').href.endsWith('/icon-waiting.svg')";
            page.until("the icon", icon).await;
            let title = text(&page, "return document.getElementById('question-title').innerText");
            assert_eq!(title.await, "Deploy <b>4f2c</b> to production?");
            page.save_picture(&format!("question-{via}.png")).await;

            // Nothing is sent before what is required is there.
            page.run(SUBMIT).await;
            page.run(FILL).await;
            page.run(SUBMIT).await;
            page.until("the answer is shown", IS_ANSWERED).await;
            page.until("it goes on", &shows("state", "Running")).await;
            page.until("the title", "return document.title === '40 % Deployment'").await;
            let shown = text(&page, "return document.getElementById('answers').innerText").await;
            for part in [
                "Deploy <b>4f2c</b> to production?",
                "Deploy: Yes",
                "When: now",
                "Reason: it is <i>time</i>",
            ] {
                assert!(shown.contains(part), "{part} in {shown}");
            }
            let told = work.answer("deploy").await;
            assert_eq!(
                told["values"],
                json!({ "go": true, "when": "now", "why": "it is <i>time</i>" })
            );
            work.progress(60, "Deploying", "").await;
            page.until("the bar goes on", &shows("percent", "60 %")).await;
            page.save_picture(&format!("question-answered-{via}.png")).await;
            assert_eq!(page.run("return window.isTheSame === true").await, true, "no reload");
            work.complete(json!(1)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn what_was_typed_stays_when_the_gateway_comes_back() {
    in_browser(|page| async move {
        let mut gateway = Gateway::start(&[("HISTORY__STORE", "disk")]).await;
        let work = Work::begin(&gateway, "Deployment").await;
        work.ask(question()).await;
        for (done, via) in (40..).zip(ALL) {
            open(&page, &gateway, &work.id, via).await;
            page.until("the form", IS_ASKED).await;
            page.run(FILL).await;
            page.run("document.querySelector('#answer [name=why]').focus()").await;
            gateway.kill();
            let tells = "return document.getElementById('connection').innerText\
                .startsWith('The gateway does not answer')";
            page.until("that the gateway does not answer", tells).await;
            page.run(SUBMIT).await;
            let unsent = "return document.getElementById('answer-told').innerText\
                .startsWith('The gateway does not answer; your answer was not sent')";
            page.until("that it was not sent", unsent).await;
            gateway.restart().await;
            page.until("it is back", "return document.getElementById('connection').innerText === ''").await;
            // Something changes, so the stream works again.
            work.progress(done, via, "").await;
            page.until("the stage", &shows("stage", via)).await;
            let typed = "return document.querySelector('#answer [name=why]').value === 'it is <i>time</i>' \
                && document.querySelector('#answer [name=go]:checked').value === 'yes'";
            assert_eq!(page.run(typed).await, true, "over {via}");
        }
        page.run(SUBMIT).await;
        page.until("the answer is taken", IS_ANSWERED).await;
        assert_eq!(work.answer("deploy").await["values"]["when"], "now");
    })
    .await;
}

#[tokio::test]
async fn a_single_question_has_two_buttons() {
    in_browser(|page| async move {
        let gateway = Gateway::start(&[]).await;
        page.driver().set_window_size(400, 800).await.expect("a window");
        let work = Work::begin(&gateway, "Deployment").await;
        let fields = json!([{ "name": "yes", "type": "confirm" }]);
        work.ask(json!({ "ask": "a", "title": "Deploy to production?", "fields": fields })).await;
        open(&page, &gateway, &work.id, "sse").await;
        page.until("the form", IS_ASKED).await;
        page.save_picture("question-buttons.png").await;
        let wide = "return document.documentElement.scrollWidth <= innerWidth";
        assert_eq!(page.run(wide).await, true, "it fits on a phone");
        page.run("document.querySelector('#answer button[value=no]').click()").await;
        page.until("the answer is taken", IS_ANSWERED).await;
        assert_eq!(work.answer("a").await["values"]["yes"], false);
    })
    .await;
}

#[tokio::test]
async fn of_two_visitors_one_wins_and_both_see_what_was_answered() {
    in_browser(|page| async move {
        let gateway = Gateway::start(&[]).await;
        let work = Work::begin(&gateway, "Deployment").await;
        work.ask(question()).await;
        open(&page, &gateway, &work.id, "sse").await;
        page.until("the form", IS_ASKED).await;
        page.run(FILL).await;
        // A second page in the same browser, which is as far as the first one.
        page.run(&format!("window.other = window.open('/jobs/{}', '_blank');", work.id)).await;
        let is_ready = "return window.other?.document.getElementById('answer') != null \
            && window.other.document.getElementById('job').dataset.via !== undefined";
        page.until("the second form", is_ready).await;
        page.run(
            "const form = window.other.document.getElementById('answer'); \
            form.querySelector('[name=go][value=no]').click(); \
            form.querySelector('[name=when]').click(); \
            form.querySelector('.actions button').click(); \
            document.querySelector('#answer .actions button').click();",
        )
        .await;
        page.until("the first page sees an answer", IS_ANSWERED).await;
        let other = IS_ANSWERED.replace("document.", "window.other.document.");
        page.until("and the second one", &other).await;
        let shown = text(&page, "return document.querySelector('#answers dl').textContent").await;
        let other =
            text(&page, "return window.other.document.querySelector('#answers dl').textContent")
                .await;
        let values = |text: &str| (text.contains("Deploy: Yes"), text.contains("Deploy: No"));
        assert_eq!(values(&shown), values(&other), "{shown} {other}");
        assert!(matches!(values(&shown), (true, false) | (false, true)), "{shown}");
        let answer = work.answer("deploy").await;
        assert_eq!(answer["values"]["go"], values(&shown).0);
    })
    .await;
}

#[tokio::test]
async fn a_question_is_answered_without_scripts() {
    in_browser_without_scripts(|page| async move {
        let gateway = Gateway::start(&[]).await;
        let work = Work::begin(&gateway, "Deployment").await;
        page.open(&format!("{}/jobs/{}", gateway.origin(), work.id)).await;
        work.ask(question()).await;
        // The page of a running job reloads itself; that of a question does not.
        page.until("the form", IS_ASKED).await;
        let refresh = "return document.head.innerHTML.includes('http-equiv')";
        assert_eq!(page.run(refresh).await, false);
        page.run(
            "document.querySelector('#answer [name=why]').value = 'x'.repeat(300); \
            for (const it of document.querySelectorAll('#answer [required]')) it.required = false; \
            document.querySelector('#answer [name=go][value=yes]').click(); \
            document.querySelector('#answer .actions button').click();",
        )
        .await;
        let is_refused = "return location.pathname.endsWith('/answers/deploy') \
            && document.body?.innerText.includes('this is missing') \
            && document.body.innerText.includes('longer than 200 characters')";
        page.until("what was wrong", is_refused).await;
        page.save_picture("question-refused.png").await;
        let kept = "return document.querySelector('#answer [name=go]:checked').value === 'yes' \
            && document.querySelector('#answer [name=why]').value.length === 300";
        assert_eq!(page.run(kept).await, true, "what was typed is there");
        page.run(FILL).await;
        page.run(SUBMIT).await;
        let path = format!("/jobs/{}", work.id);
        page.until("back on the page", &format!("return location.pathname === '{path}'")).await;
        page.until("the answer", IS_ANSWERED).await;
        page.until("it goes on", &shows("state", "Running")).await;
        assert_eq!(work.answer("deploy").await["values"]["go"], true);
    })
    .await;
}

#[tokio::test]
async fn a_question_can_be_answered_by_keyboard_and_read_aloud() {
    in_browser(|page| async move {
        let gateway = Gateway::start(&[]).await;
        let work = Work::begin(&gateway, "Deployment").await;
        open(&page, &gateway, &work.id, "sse").await;
        work.ask(question()).await;
        page.until("the form", IS_ASKED).await;
        let live = "const state = document.getElementById('state'); \
            return state.getAttribute('aria-live') === 'polite' \
            && document.getElementById('question').getAttribute('aria-labelledby') === 'question-title'";
        assert_eq!(page.run(live).await, true);
        let named = "return [...document.querySelectorAll('#answer input, #answer textarea')] \
            .every((it) => it.labels.length === 1)";
        assert_eq!(page.run(named).await, true, "every field has a label");
        page.run("document.querySelector('#answer [name=go]').focus()").await;
        let driver = page.driver();
        let keys = async |keys: &str| {
            let active = driver.active_element().await.expect("it has the focus");
            active.send_keys(keys).await.expect("it takes keys");
        };
        keys(" ").await;
        keys("\u{e004}").await; // Tab
        keys(" ").await;
        keys("\u{e004}").await;
        keys("by keys").await;
        keys("\u{e004}").await;
        keys("\u{e007}").await; // Enter
        page.until("the answer is taken", IS_ANSWERED).await;
        let values = work.answer("deploy").await["values"].clone();
        assert_eq!(values, json!({ "go": true, "when": "now", "why": "by keys" }));
    })
    .await;
}
