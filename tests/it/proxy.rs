//! Sites that reach the world only through an HTTP proxy.

use std::fs;
use std::time::Duration;

use koinon_aggregation::roster::Role;
use koinon_client::node::join::JoinOptions;
use koinon_client::node::proxy::{Proxy as Setting, ProxySetting};
use koinon_tests::cluster::join_token;
use koinon_tests::{Cluster, Proxy, Task};

const LONG: Duration = Duration::from_secs(30);

#[test]
fn a_round_goes_through_a_proxy_that_wants_a_password() {
    let mut cluster = Cluster::start(5);
    let proxy = Proxy::start("clinic", "s@fe word");
    for site in &cluster.sites {
        let url = format!("proxy = \"http://clinic@127.0.0.1:{}\"", proxy.port());
        let path = site.dir.join("client.toml");
        let text = fs::read_to_string(&path).unwrap();
        let text = text
            .replace("proxy = \"none\"", &url)
            .replace("# proxy_password_file", "proxy_password_file");
        fs::write(path, text).unwrap();
        fs::write(site.dir.join("proxy.password"), "s@fe word\n").unwrap();
    }
    fs::write(cluster.sites[0].dir.join("proxy.password"), "wrong\n").unwrap();
    cluster.start_sites();
    let refused = cluster.sites[0].wait("the proxy refuses", LONG, |status| {
        status.problem.as_ref().is_some_and(|problem| problem.contains("407"))
    });
    assert!(!refused.connected);
    assert!(proxy.refused() >= 1);
    // The password counts from the next start.
    cluster.sites[0].stop().unwrap();
    fs::write(cluster.sites[0].dir.join("proxy.password"), "s@fe word\n").unwrap();
    cluster.sites[0].start();
    let task = cluster.operator.submit(&Task::new(5, 1, 8));
    cluster.operator.wait_done(task, LONG);
    assert!(proxy.tunnels() >= 5, "every site went through the proxy");
    cluster.stop();
}

#[test]
fn joining_goes_through_a_proxy() {
    let mut cluster = Cluster::start(0);
    let proxy = Proxy::start("clinic", "word");
    let token = cluster.invite("behind", Role::Client);
    let setting = |password: &str| {
        let url = format!("http://clinic:{password}@127.0.0.1:{}", proxy.port());
        let proxy = ProxySetting::Through(Setting::parse(&url).unwrap());
        JoinOptions { proxy, ..JoinOptions::default() }
    };
    let dir = cluster.path("behind");
    let error = join_token(&token, &dir, &setting("no")).unwrap_err();
    assert_eq!(error.exit_code(), 6, "{error}");
    join_token(&token, &dir, &setting("word")).unwrap();
    assert_eq!(proxy.tunnels(), 1);
    assert_eq!(cluster.operator.pending().enrolments.len(), 1);
}
