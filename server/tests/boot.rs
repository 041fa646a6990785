//! Boot scripts, over a real socket.

mod support;

use nibs_job::{Class, Outcome};
use support::{MACHINE, Plane, finished, started};

#[tokio::test]
async fn the_chain_script_leads_to_the_machines_own() {
    let data = tempfile::tempdir().unwrap();
    let plane = Plane::start(data.path()).await;
    let script = plane.text("/boot.ipxe").await;
    assert!(script.starts_with("#!ipxe\n"));
    assert!(script.contains("chain --replace ipxe?mac=${mac:hexhyp}&uuid=${uuid}&"), "{script}");
}

#[tokio::test]
async fn a_machine_boots_the_agent_until_its_job_has_finished_well() {
    let data = tempfile::tempdir().unwrap();
    let plane = Plane::start(data.path()).await;
    let boot = async || plane.text("/ipxe?mac=52-54-00-12-34-56&uuid=&arch=x86_64").await;
    let base = plane.url("");

    let unknown = boot().await;
    assert!(unknown.contains("no job yet"), "{unknown}");
    assert!(unknown.contains(&format!("kernel {base}/assets/hook/vmlinuz-x86_64 ")), "{unknown}");
    assert!(unknown.contains(&format!(" nibs.control={base} hw_addr={MACHINE} ")), "{unknown}");

    plane.assign("demo", MACHINE).await;
    assert!(boot().await.contains("job demo"));
    let failed = Outcome::Failed { class: Class::Environment, message: "no disk".into() };
    plane.report(MACHINE, "demo", vec![started("demo", 1), finished("demo", 2, failed)]).await;
    let waits = boot().await;
    assert!(waits.contains("failed and waits for a retry") && waits.contains("kernel "), "{waits}");

    plane.call(reqwest::Method::POST, &format!("/v1/machines/{MACHINE}/retry"), None).await;
    plane.report(MACHINE, "demo", vec![finished("demo", 3, Outcome::Succeeded)]).await;
    let done = boot().await;
    assert!(done.contains("job demo has finished") && done.ends_with("exit 1\n"), "{done}");
    assert!(!done.contains("kernel"), "{done}");
    assert_eq!(plane.json("/v1/machines").await[0]["boots"], 4);
}

#[tokio::test]
async fn a_card_that_does_not_name_the_machine_boots_it_all_the_same() {
    let data = tempfile::tempdir().unwrap();
    let plane = Plane::start(data.path()).await;
    let facts = serde_json::json!({ "interfaces": [{ "name": "eth1", "mac": MACHINE }] });
    let hello = serde_json::json!({ "agent": "0.1.0", "facts": facts });
    plane.call(reqwest::Method::POST, "/v1/machines/rack1-u7/job", Some(hello)).await;
    plane.assign("demo", MACHINE).await;
    plane.report("rack1-u7", "demo", vec![finished("demo", 1, Outcome::Succeeded)]).await;
    let script = plane.text(&format!("/ipxe?mac={MACHINE}")).await;
    assert!(script.contains("rack1-u7: job demo has finished"), "{script}");
}

#[tokio::test]
async fn nothing_in_a_query_gets_into_a_script() {
    let data = tempfile::tempdir().unwrap();
    let plane = Plane::start(data.path()).await;
    for query in [
        "mac=${shell}",
        "mac=52:54:00:12:34:56%0Ashell",
        "mac=52:54:00:12:34:56%20%7C%7C%20shell",
        "uuid=x%0Ashell",
        "uuid=%24%7Bshell%7D",
        "uuid=a%20%7C%7C%20shell",
        "serial=%0Ashell&product=%0Dshell&vendor=%00shell",
        "arch=%0Ashell",
        "arch=x86_64%0Ashell",
        "mac=52:54:00:12:34:56&mac=%0Ashell",
        "shell=shell&%0Ashell=%0Ashell",
    ] {
        let answer = plane.get(&format!("/ipxe?{query}")).await;
        assert_eq!(answer.status(), 200, "{query}");
        let script = answer.text().await.unwrap();
        assert!(script.starts_with("#!ipxe\n"), "{query}: {script}");
        assert!(!script.contains("shell"), "{query}: {script}");
    }
    for host in ["h\"; shell", "h/shell", "shell@h", "${shell}", "h shell", ""] {
        let request = format!("GET /ipxe HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        let answer = plane.raw(&request).await;
        assert!(!answer.contains("shell"), "{host}: {answer}");
        assert!(!answer.contains("kernel"), "{host}: {answer}");
    }
}

#[tokio::test]
async fn an_unreadable_mac_is_not_an_unknown_machine() {
    let data = tempfile::tempdir().unwrap();
    let plane = Plane::start(data.path()).await;
    plane.write("jobs/wipe.toml", "name = \"wipe\"\nactions = [{ uses = \"reboot\" }]\n");
    plane.write("matches/all.toml", "job = \"wipe\"\nselector = {}\n");
    plane.assign("demo", MACHINE).await;
    let script = plane.text("/ipxe?mac=525400").await;
    assert!(script.contains("not a hardware address") && !script.contains("kernel"), "{script}");
}
