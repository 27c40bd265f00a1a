//! The page that waits for a job: it shows what the worker reports, and then opens the result.

use serde_json::json;

use crate::support::{
    Cloner, Gateway, Page, Work, eventually, in_browser, in_browser_without_scripts,
};

const ALL: [&str; 3] = ["sse", "iframe", "poll"];

/// Milliseconds between two of git's progress lines, of which there are some hundreds.
const PAUSE: u32 = 8;

/// The same for a page that reloads every three seconds.
const LONG_PAUSE: u32 = 60;

/// A script's condition: the element with this id shows this text.
fn shows(id: &str, text: &str) -> String {
    format!("return document.getElementById('{id}').innerText === `{text}`")
}

/// Opens the page of a job, which subscribes over `via`.
async fn watch(page: &Page, origin: &str, id: &str, via: &str) {
    page.open(&format!("{origin}/jobs/{id}?via={via}")).await;
    let listens = format!("return document.getElementById('job').dataset.via === '{via}'");
    page.until("the page listens", &listens).await;
}

/// Reads the bar until the browser is below the path `end`. Returns the values that it showed.
async fn watch_bar(page: &Page, end: &str) -> Vec<u64> {
    let mut seen = Vec::new();
    let look = "return [location.pathname, \
        document.getElementById('bar')?.getAttribute('aria-valuenow') ?? '']";
    eventually(&format!("the end at {end}"), async || {
        let looked = page.driver().execute(look, Vec::new()).await.ok()?;
        seen.extend(looked[1].as_str().and_then(|it| it.parse::<u64>().ok()));
        looked[0].as_str()?.starts_with(end).then_some(())
    })
    .await;
    seen
}

fn assert_grows(seen: &[u64], least: usize) {
    assert!(seen.is_sorted(), "the bar never goes back: {seen:?}");
    let mut values = seen.to_vec();
    values.dedup();
    assert!(least <= values.len(), "the bar moves: {values:?}");
}

async fn text(page: &Page, script: &str) -> String {
    page.run(script).await.as_str().unwrap_or_default().to_owned()
}

/// Submits the form of the example, which opens the page of the job.
async fn submit(page: &Page, cloner: &Cloner) {
    page.open(&format!("{}/", cloner.origin)).await;
    page.until("the form", "return document.readyState === 'complete'").await;
    page.run(&format!(
        "document.querySelector('input[name=address]').value = '{}';
        document.querySelector('form button').click();",
        cloner.repository
    ))
    .await;
    let is_there = "return location.pathname.startsWith('/jobs/') \
        && document.getElementById('job') !== null";
    page.until("the page of the job", is_there).await;
}

/// Clones from the form to the files, with the job's page on this transport.
async fn clone_over(via: &'static str) {
    in_browser(move |page| async move {
        let cloner = Cloner::start(PAUSE).await;
        submit(&page, &cloner).await;
        let id = text(&page, "return location.pathname.split('/').pop()").await;
        watch(&page, &cloner.origin, &id, via).await;
        let n_entries = page.run("return history.length").await;

        let seen = watch_bar(&page, "/clones/").await;
        assert_grows(&seen, 5);
        page.until("the files", "return document.body.innerText.includes('3000 files.')").await;
        assert_eq!(page.run("return history.length").await, n_entries);
    })
    .await;
}

#[tokio::test]
async fn a_clone_is_followed_by_event_source_up_to_its_files() {
    clone_over("sse").await;
}

#[tokio::test]
async fn a_clone_is_followed_by_iframe_up_to_its_files() {
    clone_over("iframe").await;
}

#[tokio::test]
async fn a_clone_is_followed_by_poll_up_to_its_files() {
    clone_over("poll").await;
}

#[tokio::test]
async fn a_clone_is_followed_without_scripts_up_to_its_files() {
    in_browser_without_scripts(|page| async move {
        let cloner = Cloner::start(LONG_PAUSE).await;
        submit(&page, &cloner).await;
        let seen = watch_bar(&page, "/clones/").await;
        assert_grows(&seen, 3);
        page.until("the files", "return document.body.innerText.includes('3000 files.')").await;
    })
    .await;
}

#[tokio::test]
async fn the_page_shows_what_the_worker_reports_and_goes_on_to_the_result() {
    in_browser(|page| async move {
        let gateway = Gateway::start(&[]).await;
        page.driver().set_window_size(1000, 800).await.expect("a window");
        for via in ALL {
            let id = Work::create(&gateway, "Yearly <b>report</b>").await;
            watch(&page, &gateway.origin(), &id, via).await;
            page.until("no worker", &shows("state", "Waiting for a worker")).await;
            assert_eq!(text(&page, "return document.title").await, "Yearly <b>report</b>");
            page.save_picture("job-start.png").await;
            let n_entries = page.run("return history.length").await;

            let work = Work::claim(&gateway).await;
            let hostile = "one\n<script>window.isHacked = 1</script>\n";
            work.log(0, hostile).await;
            work.progress(30, "Reading <i>files</i>", "30 of 100 & more").await;
            page.until("the state", &shows("state", "Running")).await;
            page.until("the stage", &shows("stage", "Reading <i>files</i>")).await;
            page.until("the message", &shows("message", "30 of 100 & more")).await;
            page.until("the title", "return document.title === '30 % Yearly <b>report</b>'").await;
            work.log(hostile.len(), "two\n").await;
            let log = "return document.getElementById('log').textContent";
            page.until("the log", &format!("{log}.endsWith('two\\n')")).await;
            assert_eq!(text(&page, log).await, format!("{hostile}two\n"));
            let is_hacked = "return 'isHacked' in window || \
                document.querySelector('#log script, #stage *, h1 *') !== null";
            assert_eq!(page.run(is_hacked).await, false);

            for done in 31..60 {
                work.progress(done, "Reading", "").await;
            }
            page.until("59 %", &shows("percent", "59 %")).await;
            page.save_picture("job-midway.png").await;
            work.complete(json!({ "pages": 12 })).await;
            page.until("the result", &shows("result-text", "{\n  \"pages\": 12\n}")).await;
            assert!(page.path().await.ends_with(&id), "the log is still there");
            assert_eq!(page.run("return history.length").await, n_entries, "over {via}");

            page.open(&format!("{}/jobs/{id}?page", gateway.origin())).await;
            page.until("the end", &shows("state", "Done")).await;
            page.until("a full bar", &shows("percent", "100 %")).await;
            page.until("the title", "return document.title === '✓ Yearly <b>report</b>'").await;
            page.save_picture("job-end.png").await;
        }
    })
    .await;
}

#[tokio::test]
async fn the_bar_never_goes_back_whatever_the_transport() {
    in_browser(|page| async move {
        let gateway = Gateway::start(&[("JOBS__PROGRESS_INTERVAL", "50ms")]).await;
        for via in ALL {
            let work = Work::begin(&gateway, "Counting").await;
            watch(&page, &gateway.origin(), &work.id, via).await;
            let report = async {
                for done in (10..=90).step_by(10) {
                    work.progress(done, "Counting", "").await;
                    let is_reached = format!(
                        "return {done} <= Number(document.getElementById('bar').ariaValueNow \
                        ?? document.getElementById('bar').getAttribute('aria-valuenow'))"
                    );
                    page.until("the bar follows", &is_reached).await;
                }
                // A worker whose progress goes backwards.
                work.report_at(100, 20).await;
                work.complete_with_link("/health/live").await;
            };
            let ((), seen) = tokio::join!(report, watch_bar(&page, "/health/live"));
            assert_grows(&seen, 5);
        }
    })
    .await;
}

#[tokio::test]
async fn the_cancel_button_stops_the_job() {
    in_browser(|page| async move {
        let gateway = Gateway::start(&[]).await;
        let work = Work::begin(&gateway, "Endless").await;
        watch(&page, &gateway.origin(), &work.id, "sse").await;
        work.progress(1, "Trying", "").await;
        page.until("it runs", &shows("state", "Running")).await;
        page.run("document.querySelector('#cancel button').click()").await;
        page.until("it is asked for", &shows("state", "Being cancelled")).await;
        assert_eq!(work.progress(2, "Trying", "").await["cancel"], true);
        work.fail(json!({ "detail": "stopped" })).await;
        page.until("it has ended", &shows("state", "Cancelled")).await;
        let is_offered = "return document.getElementById('cancel').hidden \
            && !document.getElementById('retry').hidden";
        page.until("another try is offered", is_offered).await;
        assert_eq!(text(&page, "return document.title").await, "⊘ Endless");
        page.run("document.querySelector('#retry button').click()").await;
        page.until("it waits again", &shows("state", "Waiting for another attempt")).await;
        let again = Work::claim(&gateway).await;
        assert_eq!(again.id, work.id);
        page.until("it runs again", &shows("state", "Running")).await;
    })
    .await;
}

#[tokio::test]
async fn the_cancel_button_works_without_scripts() {
    in_browser_without_scripts(|page| async move {
        let gateway = Gateway::start(&[]).await;
        let work = Work::begin(&gateway, "Endless").await;
        work.progress(30, "Trying", "").await;
        page.open(&format!("{}/jobs/{}", gateway.origin(), work.id)).await;
        // Clicks again if the page was reloaded between the two.
        eventually("it is asked for", async || {
            let click = "document.querySelector('#cancel button').click()";
            let _ = page.driver().execute(click, Vec::new()).await;
            let is_asked = work.progress(30, "Trying", "").await["cancel"] == true;
            is_asked.then_some(())
        })
        .await;
        page.until("it is cancelled", &shows("state", "Being cancelled")).await;
        work.fail(json!({})).await;
        page.until("it has ended", &shows("state", "Cancelled")).await;
        page.until("the title", "return document.title === '⊘ Endless'").await;
        assert_eq!(page.run("return 'via' in document.getElementById('job').dataset").await, false);
    })
    .await;
}

#[tokio::test]
async fn a_failure_is_shown_with_its_reason_and_listed() {
    in_browser(|page| async move {
        let gateway = Gateway::start(&[]).await;
        page.driver().set_window_size(1000, 800).await.expect("a window");
        let work = Work::begin(&gateway, "Yearly report").await;
        watch(&page, &gateway.origin(), &work.id, "sse").await;
        let n_entries = page.run("return history.length").await;
        work.log(0, "opened the disk\nread 40 files\n").await;
        work.progress(40, "Reading", "").await;
        page.until("the title", "return document.title === '40 % Yearly report'").await;
        work.fail(json!({ "title": "Disk full", "detail": "No space <left>\non the disk", "status": 507 }))
            .await;
        page.until("the state", &shows("state", "Failed")).await;
        page.until("its title", &shows("error-title", "Disk full")).await;
        page.until("its detail", &shows("error-detail", "No space <left>\non the disk")).await;
        page.until("the title", "return document.title === '✗ Yearly report'").await;
        assert_eq!(page.run("return history.length").await, n_entries);
        page.save_picture("job-failure.png").await;

        let running = Work::begin(&gateway, "Monthly report").await;
        running.progress(60, "Reading", "").await;
        Work::create(&gateway, "Daily report").await;
        page.open(&format!("{}/jobs", gateway.origin())).await;
        let is_listed = "return document.querySelectorAll('.jobs tbody tr').length === 3";
        page.until("the list", is_listed).await;
        page.save_picture("job-list.png").await;
    })
    .await;
}

#[tokio::test]
async fn a_gateway_that_is_killed_is_told_and_so_is_that_it_has_forgotten_the_job() {
    in_browser(|page| async move {
        let mut gateway = Gateway::start(&[]).await;
        for via in ALL {
            let work = Work::begin(&gateway, "Lost in memory").await;
            watch(&page, &gateway.origin(), &work.id, via).await;
            work.progress(20, "Remembering", "").await;
            page.until("20 %", &shows("percent", "20 %")).await;
            gateway.kill();
            let tells = "return document.getElementById('connection').innerText\
                .startsWith('The gateway does not answer')";
            page.until("that the gateway does not answer", tells).await;
            page.save_picture("job-away.png").await;
            gateway.restart().await;
            let unknown = shows("state", "The gateway no longer knows this job");
            page.until("that the job is unknown", &unknown).await;
            assert_eq!(text(&page, "return document.title").await, "? Lost in memory");
            page.save_picture("job-unknown.png").await;

            page.driver().refresh().await.expect("it is loaded again");
            let is_missing = "return document.body?.innerText.includes('No such job')";
            page.until("the page for unknown jobs", is_missing).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_job_whose_worker_dies_is_shown_with_its_second_worker() {
    in_browser(|page| async move {
        let settings = [("JOBS__LEASE", "1s"), ("JOBS__BACKOFF", "2s")];
        let gateway = Gateway::start(&settings).await;
        for via in ALL {
            let work = Work::begin(&gateway, "Yearly report").await;
            let keeping = work.keep(40, "First try");
            watch(&page, &gateway.origin(), &work.id, via).await;
            page.until("the first try", &shows("stage", "First try")).await;
            drop(keeping);
            page.until("it waits", &shows("state", "Waiting for another attempt")).await;
            page.save_picture("job-again.png").await;
            let second = Work::claim(&gateway).await;
            assert_eq!(second.id, work.id);
            let keeping = second.keep(10, "Second try");
            page.until("the second attempt", &shows("attempt", "2 of 3")).await;
            page.until("the second try", &shows("stage", "Second try")).await;
            page.until("the bar begins anew", &shows("percent", "10 %")).await;
            second.complete(json!("by the second")).await;
            drop(keeping);
            page.until("the result", "return document.body?.innerText.includes('by the second')")
                .await;
            assert!(page.path().await.ends_with(&second.id));
        }
    })
    .await;
}

#[tokio::test]
async fn a_log_has_colours_and_addresses_and_nothing_in_it_becomes_markup() {
    in_browser(|page| async move {
        let gateway = Gateway::start(&[]).await;
        page.driver().set_window_size(1000, 800).await.expect("a window");
        let work = Work::begin(&gateway, "Yearly report").await;
        let first = "\x1b[32mok\x1b[0m plain \x1b[1;31mbad\n";
        work.log(0, first).await;
        page.open(&format!("{}/jobs/{}", gateway.origin(), work.id)).await;
        let colored = "return document.querySelector('#log .ansi-2')?.textContent === 'ok' \
            && document.querySelector('#log .ansi-1.ansi-bold')?.textContent === 'bad\\n'";
        page.until("the colours", colored).await;
        // The style goes on into the next line, and a sequence may be cut in two.
        let hostile = [
            "still bad \x1b[",
            "0m\x1b]0;<img src=x onerror=isHacked=1>\x07\x1b[38;5;196mred?\x1b[2J\x1b[1000000000000000000m\n",
            "\x1b]8;;javascript:isHacked=1\x1b\\link\x1b]8;;\x1b\\<b onclick=isHacked=1>\x1b[31;\"><script>isHacked=1</script>\n",
            "\x1b[m\x1b[38;2;1;2;3;4mtrue\x1b[7m\x1b[4minverse\x1b[0m\x08\x00 end\n",
        ];
        let mut length = first.len();
        for text in hostile {
            work.log(length, text).await;
            length += text.len();
        }
        let text_of = "return document.getElementById('log').textContent";
        page.until("all", &format!("{text_of}.endsWith(' end\\n')")).await;
        let shown = text(&page, text_of).await;
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines[..2], ["ok plain bad", "still bad red?"], "{shown}");
        assert!(lines[2].starts_with("link<b onclick=isHacked=1>"), "{shown}");
        assert_eq!(lines[3], "trueinverse end");
        let is_plain = "return !('isHacked' in window) \
            && document.querySelector('#log b, #log img, #log script, #log a:not(.at)') === null \
            && [...document.getElementById('log').querySelectorAll('span')] \
                .every((it) => /^(line|ansi-)/.test(it.className))";
        assert_eq!(page.run(is_plain).await, true);
        page.save_picture("job-colours.png").await;

        // Every line has an address, which survives a reload and shows earlier lines.
        let offset = first.len();
        let lines: String = (0..2000).map(|at| format!("line {at}\n")).collect();
        work.log(length, &lines).await;
        page.open(&format!("{}/health/live", gateway.origin())).await;
        page.open(&format!("{}/jobs/{}#o{offset}", gateway.origin(), work.id)).await;
        let tools = "return !document.getElementById('log-copy').hidden";
        page.until("the tools", tools).await;
        page.run("document.getElementById('log-wrap').click()").await;
        let is_unwrapped = "return getComputedStyle(document.getElementById('log')).whiteSpace === 'pre' \
            && document.getElementById('log-wrap').getAttribute('aria-pressed') === 'false'";
        page.until("long lines are not wrapped", is_unwrapped).await;
        let saved = "return [...document.querySelectorAll('a[download]')].map((it) => it.download).join()";
        assert_eq!(text(&page, saved).await, "Yearly-report.json,Yearly-report.log");
    })
    .await;
}

#[tokio::test]
async fn the_icon_shows_the_progress() {
    in_browser(|page| async move {
        let gateway = Gateway::start(&[]).await;
        let work = Work::begin(&gateway, "Yearly report").await;
        work.progress(38, "Reading", "").await;
        watch(&page, &gateway.origin(), &work.id, "sse").await;
        let icon = |name: &str| {
            format!("return document.getElementById('icon').href.endsWith('/static/{name}')")
        };
        page.until("35 %", &icon("icon-35.svg")).await;
        work.progress(77, "Reading", "").await;
        page.until("75 %", &icon("icon-75.svg")).await;
        let drawn = client_text(&gateway, "/static/icon-75.svg").await;
        assert!(drawn.contains("stroke-dasharray=\"75 100\""), "{drawn}");
        work.complete(json!("all is well")).await;
        page.until("the end", &icon("icon-100.svg")).await;
        page.until("the result", &shows("result-text", "all is well")).await;
    })
    .await;
}

#[tokio::test]
async fn a_result_is_shown_without_scripts() {
    in_browser_without_scripts(|page| async move {
        let gateway = Gateway::start(&[]).await;
        let work = Work::begin(&gateway, "Yearly report").await;
        work.log(0, "\x1b[32mok\x1b[0m\n").await;
        work.complete(json!({ "pages": 12 })).await;
        page.open(&format!("{}/jobs/{}", gateway.origin(), work.id)).await;
        page.until("the result", &shows("result-text", "{\n  \"pages\": 12\n}")).await;
        page.until("the log without escapes", &shows("log", "ok\n")).await;
    })
    .await;
}

#[tokio::test]
async fn the_list_is_live_and_keeps_what_is_selected() {
    in_browser(|page| async move {
        let gateway = Gateway::start(&[]).await;
        let work = Work::begin(&gateway, "Yearly report").await;
        work.fail(json!({ "detail": "no" })).await;
        page.open(&format!("{}/jobs", gateway.origin())).await;
        page.until("it listens", "return document.body.dataset.via === 'sse'").await;
        page.run("window.isTheSame = true").await;
        let select = format!("document.getElementById('select-{}').click()", work.id);
        page.run(&select).await;
        let second = Work::begin(&gateway, "Monthly report").await;
        second.progress(30, "Reading", "").await;
        let shows = |part: &str| {
            let row = "document.querySelector('#list tbody tr')?.innerText ?? ''";
            format!("return ({row}).includes('{part}')")
        };
        page.until("the second job", &shows("Monthly report")).await;
        page.until("its progress", &shows("30 %")).await;
        let selected = format!("return document.getElementById('select-{}').checked", work.id);
        assert_eq!(page.run(&selected).await, true);
        page.save_picture("job-list-live.png").await;
        page.run("document.querySelector('#list button[form=bulk]').click()").await;
        let queued = "return document.querySelector('#list .state-queued') !== null \
            && document.body.innerText.includes('Yearly report')";
        page.until("it is tried again", queued).await;
        assert_eq!(Work::claim(&gateway).await.id, work.id);
    })
    .await;
}

async fn client_text(gateway: &Gateway, path: &str) -> String {
    gateway.client.get(gateway.url(path)).send().await.expect("a reply").text().await.expect("text")
}
