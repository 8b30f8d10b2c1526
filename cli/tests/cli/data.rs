//! A site's table that is not as it should be: named by row and column at the site, by a code elsewhere, and nothing of it leaves.

use crate::federation::{Federation, name, table};
use crate::support::{Running, edit, read, wait_until};

/// Six sites, of which the last has this table; its words about it when a round needed it.
fn report_of(table: &str) -> String {
    let federation = Federation::of(6);
    federation.give_data(&name(5), table);
    round_with(&federation)
}

/// Runs one task over the good sites and gives what the last one wrote into its report.
fn round_with(federation: &Federation) -> String {
    let task = federation.submit(1);
    federation.approve(&task);
    let nodes = federation.nodes();
    let report = federation.path(&name(5)).join("report.txt");
    let said = || nodes.iter().map(Running::said).collect::<String>();
    wait_until(|| read(&report).contains("no contribution"), said);
    // The others go on without it.
    let view = federation.wait_for_state(&task, &["done", "failed"]);
    assert_eq!(view["state"], "done", "{view}");
    let rounds = view["history"].as_array().unwrap();
    assert!(rounds.iter().all(|round| round["participants"] == 5), "{view}");
    // Figures and cells stay where they were read: no word of them is in the log or at the coordinator.
    let coordinator = federation.coordinator.as_ref().map(Running::said).unwrap_or_default();
    assert!(!coordinator.contains("p5-"), "{coordinator}");
    read(&report)
}

#[test]
fn a_truncated_table_is_refused_by_line() {
    let whole = table(5);
    let report = report_of(&whole[..whole.len() - 8]);
    assert!(
        report.contains("data.csv")
            && report.contains("last line, 41")
            && report.contains("cut short"),
        "{report}"
    );
}

#[test]
fn a_cell_of_the_wrong_type_is_refused_by_row_and_column() {
    let report = report_of(&table(5).replacen(",no\n", ",no\np5-x,old,3.5,no\n", 1));
    assert!(report.contains("age") && report.contains("old"), "{report}");
    assert!(report.contains("row 2") || report.contains("line 3"), "{report}");
}

#[test]
fn a_missing_column_is_refused_by_name_and_renaming_mends_it() {
    let federation = Federation::of(6);
    federation.give_data(&name(5), &table(5).replacen("relapse", "rueckfall", 1));
    let report = round_with(&federation);
    assert!(report.contains("relapse"), "{report}");

    let settings = federation.path(&name(5)).join("client.toml");
    let text = read(&settings) + "\n[data.rename]\nrueckfal = \"relapse\"\n";
    std::fs::write(&settings, text).unwrap();
    let check = ["client", "check", "--dir", "site-5"];
    let ran = federation.koinon(&check);
    assert!(ran.out.contains("rueckfal"), "{}", ran.out);
    ran.fails(4, &["data"]);
    edit(&settings, "rueckfal ", "rueckfall ");
    federation.koinon(&check).good();
}

#[test]
fn client_check_reads_the_table_as_far_as_it_can_without_a_task() {
    let federation = Federation::of(1);
    let data = federation.path("site-0/data.csv");
    let check = |words: &[&str]| {
        let ran = federation.koinon(&["client", "check", "--dir", "site-0"]);
        for word in words {
            assert!(ran.out.contains(word), "{word}: {}", ran.out);
        }
        ran.fails(4, &["data"]);
    };
    std::fs::write(&data, "").unwrap();
    check(&["data.csv", "empty"]);
    std::fs::write(&data, [0xff, 0xfe, 0x41, 0x00]).unwrap();
    check(&["UTF-8"]);
    std::fs::remove_file(&data).unwrap();
    check(&["data.csv", "cannot be opened"]);
    let settings = federation.path("site-0/client.toml");
    edit(&settings, "\n[data]\npath = \"data.csv\"\n", "");
    check(&["[data]", "client.toml"]);
}

/// A table with every ninth number gone and its columns called otherwise.
fn worn(site: usize) -> String {
    let mut cell = 0;
    let mut worn = |text: &str| {
        cell += 1;
        if cell % 9 == 0 { String::new() } else { text.to_owned() }
    };
    let whole = table(site);
    let lines = whole.lines().skip(1).map(|line| {
        let cells: Vec<&str> = line.split(',').collect();
        format!("{},{},{},{}\n", cells[0], worn(cells[1]), worn(cells[2]), cells[3])
    });
    format!("patient,alter,wert,relapse\n{}", lines.collect::<String>())
}

#[test]
fn blank_cells_and_other_names_at_three_sites_are_imputed_reported_and_trained_on() {
    let federation = Federation::of(6);
    for site in 3..6 {
        federation.give_data(&name(site), &worn(site));
        let settings = federation.path(&name(site)).join("client.toml");
        let text = read(&settings) + "\n[data.rename]\nalter = \"age\"\nwert = \"marker\"\n";
        std::fs::write(&settings, text).unwrap();
    }
    let task = federation.submit(2);
    federation.approve(&task);
    let _nodes = federation.nodes();
    let view = federation.wait_for_state(&task, &["done", "failed"]);
    assert_eq!(view["state"], "done", "{view}");
    let rounds = view["history"].as_array().unwrap();
    assert!(rounds.iter().all(|round| round["participants"] == 6), "{view}");
    for site in 0..6 {
        let report = read(&federation.path(&name(site)).join("report.txt"));
        let imputed = report.contains("age: 4 missing") && report.contains("marker: 4 missing");
        assert_eq!(imputed, site >= 3, "{report}");
    }
}
