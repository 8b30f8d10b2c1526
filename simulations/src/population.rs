//! Who holds which rows: a table dealt out to sites, and each site's rows split into train and test.
//!
//! By a column that names the real site (the honest way, where there is one), or by one of the
//! partitions of the literature: IID, Dirichlet over the label (Hsu, Qi and Brown 2019,
//! arXiv:1909.06335, section 2) and label shards (McMahan et al. 2017, arXiv:1602.05629,
//! section 3). Everything is a function of the table, the settings and the seed; the demo's referee
//! deals with the same function.
//!
//! It never looks at a feature and fits nothing. Start at [`deal`].

use crate::error::{SimError, check_share};
use crate::seeds::SeedTree;
use rand::RngExt;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha20Rng;
use serde::Deserialize;
use std::collections::BTreeMap;

/// A CSV table as text: what a referee may hold, and nothing else in a federation does.
#[derive(Clone)]
pub struct Table {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table from its parts; every row has as many cells as the header.
    pub fn new(header: Vec<String>, rows: Vec<Vec<String>>) -> Result<Table, SimError> {
        match rows.iter().position(|row| row.len() != header.len()) {
            Some(row) => Err(SimError::data(format!(
                "row {} has {} cells, the header has {}",
                row + 1,
                rows[row].len(),
                header.len()
            ))),
            None => Ok(Table { header, rows }),
        }
    }

    /// Reads CSV with a header line.
    pub fn from_csv(bytes: &[u8]) -> Result<Table, SimError> {
        let mut reader = csv::Reader::from_reader(bytes);
        let header = reader.headers().map_err(|e| SimError::data(e.to_string()))?;
        let header = header.iter().map(str::to_owned).collect();
        let rows = reader
            .records()
            .map(|row| row.map(|row| row.iter().map(str::to_owned).collect()))
            .collect::<Result<_, _>>()
            .map_err(|e| SimError::data(e.to_string()))?;
        Table::new(header, rows)
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows.len()
    }

    /// Column names in order.
    pub fn header(&self) -> &[String] {
        &self.header
    }

    /// The cells of one column.
    pub fn column(&self, name: &str) -> Result<Vec<&str>, SimError> {
        let index = self.header.iter().position(|h| h == name).ok_or_else(|| {
            SimError::data(format!("the table has no column {name}; it has {}", some(&self.header)))
        })?;
        Ok(self.rows.iter().map(|row| row[index].as_str()).collect())
    }

    /// Some rows as CSV with the header: what a site finds in its own folder.
    pub fn to_csv(&self, rows: &[usize]) -> Vec<u8> {
        let mut writer = csv::Writer::from_writer(Vec::new());
        let written = writer
            .write_record(&self.header)
            .and_then(|()| rows.iter().try_for_each(|&row| writer.write_record(&self.rows[row])));
        written.expect("records of the header's length go into memory");
        writer.into_inner().expect("memory takes every flush")
    }
}

/// How a table becomes sites: the scenario's `[partition]` section.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Partition {
    /// One site for each value of a column.
    Column {
        /// The column that names the site of a row.
        column: String,
    },
    /// Rows shuffled and dealt evenly.
    Iid {
        /// Number of sites.
        sites: usize,
    },
    /// For each label, the sites' shares are drawn from a symmetric Dirichlet distribution.
    Dirichlet {
        /// Number of sites.
        sites: usize,
        /// Concentration: 100 is nearly even, 0.1 leaves most sites with one label.
        alpha: f64,
    },
    /// Rows sorted by label, cut into shards, each site dealt some of them.
    Shards {
        /// Number of sites.
        sites: usize,
        /// Shards of each site: 2 gives most sites two labels.
        per_site: usize,
    },
}

/// The rows of one site, by their position in the table, ascending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteRows {
    /// Valid as a site's name everywhere.
    pub name: String,
    /// Rows the site trains (and validates) on.
    pub train: Vec<usize>,
    /// Rows kept away from everybody until the end.
    pub test: Vec<usize>,
}

/// Deals a table out to sites and splits each site's rows.
///
/// `test_share` of a site's rows (rounded, 0..1) become its test rows. Sites come in the order of
/// their names; a site left without a training row is an error that names it.
///
/// ```
/// use koinon_simulations::population::{Partition, Table, deal};
/// let table = Table::from_csv(b"bank,y\nb,0\na,1\nb,1\na,0\nb,0\n").unwrap();
/// let by_bank = Partition::Column { column: "bank".into() };
/// let sites = deal(&table, &by_bank, "y", 0.3, 7).unwrap();
/// assert_eq!(sites[0].name, "a");
/// assert_eq!((sites[1].train.len(), sites[1].test.len()), (2, 1));
/// ```
pub fn deal(
    table: &Table,
    partition: &Partition,
    label: &str,
    test_share: f64,
    seed: u64,
) -> Result<Vec<SiteRows>, SimError> {
    check_share("partition.test_share", test_share)?;
    let seeds = SeedTree::new(seed).child("population");
    let mut rng = seeds.stream("deal");
    let groups = match partition {
        Partition::Column { column } => by_column(&table.column(column)?, column),
        Partition::Iid { sites } => numbered(iid(table.rows(), *sites, &mut rng)?),
        Partition::Dirichlet { sites, alpha } => {
            numbered(dirichlet(&by_label(&table.column(label)?), *sites, *alpha, &mut rng)?)
        }
        Partition::Shards { sites, per_site } => {
            numbered(shards(&by_label(&table.column(label)?), *sites, *per_site, &mut rng)?)
        }
    };
    let sites = groups.into_iter().map(|(name, rows)| split(name, rows, test_share, &seeds));
    let sites: Vec<SiteRows> = sites.collect();
    match sites.iter().find(|site| site.train.is_empty()) {
        Some(site) => Err(SimError::data(format!(
            "site {} has no training row: use fewer sites or a larger alpha",
            site.name
        ))),
        None => Ok(sites),
    }
}

/// Each site's training rows split once more, its test rows left out: for choosing settings without
/// looking at what the final figures are made of. A site keeps at least one training row.
pub fn inner_split(sites: Vec<SiteRows>, share: f64, seed: u64) -> Vec<SiteRows> {
    let seeds = SeedTree::new(seed).child("population").child("inner");
    sites
        .into_iter()
        .map(|site| match split(site.name.clone(), site.train.clone(), share, &seeds) {
            rows if rows.train.is_empty() => {
                SiteRows { name: site.name, train: site.train, test: Vec::new() }
            }
            rows => rows,
        })
        .collect()
}

/// A site's own stream decides its split, so that adding a site moves no other site's rows.
fn split(name: String, mut rows: Vec<usize>, test_share: f64, seeds: &SeedTree) -> SiteRows {
    rows.sort_unstable();
    rows.shuffle(&mut seeds.stream(&format!("split/{name}")));
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a share of a length is at most the length"
    )]
    #[expect(clippy::cast_sign_loss, reason = "both factors are non-negative")]
    let tests = (rows.len() as f64 * test_share).round() as usize;
    let mut test = rows.split_off(rows.len() - tests);
    rows.sort_unstable();
    test.sort_unstable();
    SiteRows { name, train: rows, test }
}

fn by_column(cells: &[&str], column: &str) -> BTreeMap<String, Vec<usize>> {
    // "05" says little in a log: numbers get the column's name in front, for all sites alike.
    let bare = cells.iter().any(|cell| cell.starts_with(|c: char| c.is_ascii_digit()));
    let mut groups: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (row, cell) in cells.iter().enumerate() {
        let name = if bare { format!("{column}-{cell}") } else { (*cell).to_owned() };
        groups.entry(slug(&name)).or_default().push(row);
    }
    groups
}

/// Lower case, digits and dashes: the alphabet of site names.
fn slug(text: &str) -> String {
    let dash = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let name: String = text.chars().map(dash).take(64).collect();
    name.trim_matches('-').to_owned()
}

fn by_label(cells: &[&str]) -> Vec<Vec<usize>> {
    let mut groups: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (row, cell) in cells.iter().enumerate() {
        groups.entry(cell).or_default().push(row);
    }
    groups.into_values().collect()
}

fn numbered(groups: Vec<Vec<usize>>) -> BTreeMap<String, Vec<usize>> {
    groups.into_iter().enumerate().map(|(i, rows)| (format!("site-{i:03}"), rows)).collect()
}

fn iid(rows: usize, sites: usize, rng: &mut ChaCha20Rng) -> Result<Vec<Vec<usize>>, SimError> {
    check_sites(sites)?;
    let mut order: Vec<usize> = (0..rows).collect();
    order.shuffle(rng);
    Ok((0..sites).map(|s| order.iter().copied().skip(s).step_by(sites).collect()).collect())
}

fn dirichlet(
    labels: &[Vec<usize>],
    sites: usize,
    alpha: f64,
    rng: &mut ChaCha20Rng,
) -> Result<Vec<Vec<usize>>, SimError> {
    check_sites(sites)?;
    if !(alpha > 0.0 && alpha.is_finite()) {
        return Err(SimError::scenario(format!("partition.alpha = {alpha}: must be above 0")));
    }
    let mut dealt = vec![Vec::new(); sites];
    for rows in labels {
        let mut rows = rows.clone();
        rows.shuffle(rng);
        let shares: Vec<f64> = (0..sites).map(|_| log_gamma_draw(alpha, rng)).collect();
        let top = shares.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let shares: Vec<f64> = shares.iter().map(|log| (log - top).exp()).collect();
        let total: f64 = shares.iter().sum();
        let (mut cut, mut before) = (0.0, 0);
        for (site, share) in shares.iter().enumerate() {
            cut += share / total;
            #[expect(clippy::cast_possible_truncation, reason = "at most the number of rows")]
            #[expect(clippy::cast_sign_loss, reason = "shares are non-negative")]
            let until = ((cut * rows.len() as f64).round() as usize).clamp(before, rows.len());
            let until = if site + 1 == sites { rows.len() } else { until };
            dealt[site].extend_from_slice(&rows[before..until]);
            before = until;
        }
    }
    Ok(dealt)
}

/// The logarithm of a Gamma(alpha, 1) draw (Marsaglia and Tsang 2000, with their section 6 for
/// alpha below 1): logarithms, because small alphas underflow.
fn log_gamma_draw(alpha: f64, rng: &mut ChaCha20Rng) -> f64 {
    let boost = if alpha < 1.0 { uniform(rng).ln() / alpha } else { 0.0 };
    let d = if alpha < 1.0 { alpha + 1.0 } else { alpha } - 1.0 / 3.0;
    let c = 1.0 / (9.0 * d).sqrt();
    loop {
        let x = normal(rng);
        let v = (1.0 + c * x).powi(3);
        if v > 0.0 && uniform(rng).ln() < 0.5 * x * x + d - d * v + d * v.ln() {
            return d.ln() + v.ln() + boost;
        }
    }
}

/// In (0, 1]: its logarithm is finite.
fn uniform(rng: &mut ChaCha20Rng) -> f64 {
    1.0 - rng.random::<f64>()
}

/// A standard normal draw (Box and Muller 1958).
pub(crate) fn normal(rng: &mut ChaCha20Rng) -> f64 {
    let radius = (-2.0 * uniform(rng).ln()).sqrt();
    radius * (std::f64::consts::TAU * rng.random::<f64>()).cos()
}

fn shards(
    labels: &[Vec<usize>],
    sites: usize,
    per_site: usize,
    rng: &mut ChaCha20Rng,
) -> Result<Vec<Vec<usize>>, SimError> {
    check_sites(sites)?;
    let sorted: Vec<usize> = labels.concat();
    let count = sites.saturating_mul(per_site);
    if count == 0 || count > sorted.len() {
        return Err(SimError::scenario(format!(
            "partition: {sites} sites of {per_site} shards need between 1 and {} shards",
            sorted.len()
        )));
    }
    let mut order: Vec<usize> = (0..count).collect();
    order.shuffle(rng);
    let edge = |shard: usize| shard * sorted.len() / count;
    let rows = |shards: &[usize]| {
        shards.iter().flat_map(|&s| sorted[edge(s)..edge(s + 1)].iter().copied()).collect()
    };
    Ok(order.chunks(per_site).map(rows).collect())
}

fn check_sites(sites: usize) -> Result<(), SimError> {
    if (1..=SITES_MAX).contains(&sites) {
        return Ok(());
    }
    Err(SimError::scenario(format!("partition.sites = {sites}: between 1 and {SITES_MAX}")))
}

fn some(names: &[String]) -> String {
    let shown = names.iter().take(12).cloned().collect::<Vec<_>>().join(", ");
    if names.len() > 12 { format!("{shown}, … ({} in all)", names.len()) } else { shown }
}

/// Far above what one machine simulates in a sitting.
const SITES_MAX: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn table(rows: usize) -> Table {
        let row = |i: usize| vec![format!("{:02}", i % 5), (i % 3 % 2).to_string(), i.to_string()];
        let header = ["hospital", "y", "x"].map(str::to_owned).to_vec();
        Table::new(header, (0..rows).map(row).collect()).unwrap()
    }

    fn everything(sites: &[SiteRows]) -> Vec<usize> {
        let mut rows: Vec<usize> =
            sites.iter().flat_map(|s| s.train.iter().chain(&s.test)).copied().collect();
        rows.sort_unstable();
        rows
    }

    #[test]
    fn inner_splits_never_touch_a_test_row() {
        let table = Table::from_csv(b"y\n0\n1\n0\n1\n0\n1\n0\n1\n0\n1\n").unwrap();
        let sites = deal(&table, &Partition::Iid { sites: 2 }, "y", 0.4, 3).unwrap();
        let inner = inner_split(sites.clone(), 0.4, 3);
        for (outer, inner) in sites.iter().zip(&inner) {
            assert_eq!(inner.train.len() + inner.test.len(), outer.train.len());
            assert!(!inner.train.is_empty() && !inner.test.is_empty());
            assert!(inner.test.iter().all(|row| outer.train.contains(row)));
        }
        assert_eq!(inner, inner_split(sites, 0.4, 3));
    }

    proptest! {
        #[test]
        fn every_row_is_dealt_exactly_once(
            seed in any::<u64>(), rows in 60usize..200, kind in 0..4, alpha in 0.5f64..50.0
        ) {
            let table = table(rows);
            let partition = match kind {
                0 => Partition::Column { column: "hospital".into() },
                1 => Partition::Iid { sites: 7 },
                2 => Partition::Dirichlet { sites: 3, alpha },
                _ => Partition::Shards { sites: 6, per_site: 2 },
            };
            // A skewed draw may leave a site empty: that is refused by name, not dealt.
            if let Ok(sites) = deal(&table, &partition, "y", 0.3, seed) {
                prop_assert_eq!(everything(&sites), (0..rows).collect::<Vec<_>>());
                prop_assert_eq!(&deal(&table, &partition, "y", 0.3, seed).unwrap(), &sites);
            }
        }
    }

    #[test]
    fn seeds_move_rows_and_names_are_valid() {
        let by_site = Partition::Column { column: "hospital".into() };
        let a = deal(&table(100), &by_site, "y", 0.3, 1).unwrap();
        let b = deal(&table(100), &by_site, "y", 0.3, 2).unwrap();
        assert_ne!(a, b);
        assert_eq!(a[3].name, "hospital-03");
        assert!(a.iter().all(|s| s.test.len() == 6 && s.train.len() == 14));
    }

    #[test]
    fn small_alpha_is_skewed_and_large_alpha_is_not() {
        let labels = by_label(&["a", "b"].repeat(500)).clone();
        let spread = |alpha| {
            let mut rng = SeedTree::new(3).stream("t");
            let dealt = dirichlet(&labels, 10, alpha, &mut rng).unwrap();
            let sizes: Vec<usize> = dealt.iter().map(Vec::len).collect();
            sizes.iter().max().unwrap() - sizes.iter().min().unwrap()
        };
        assert!(spread(0.1) > 150, "{}", spread(0.1));
        assert!(spread(1000.0) < 30, "{}", spread(1000.0));
    }

    #[test]
    fn shards_leave_few_labels_at_each_site() {
        let cells: Vec<String> = (0..1000).map(|i| (i / 100).to_string()).collect();
        let cells: Vec<&str> = cells.iter().map(String::as_str).collect();
        let mut rng = SeedTree::new(3).stream("t");
        for rows in shards(&by_label(&cells), 10, 2, &mut rng).unwrap() {
            let labels: std::collections::BTreeSet<&str> = rows.iter().map(|&r| cells[r]).collect();
            assert!(labels.len() <= 4);
            assert_eq!(rows.len(), 100);
        }
    }

    #[test]
    fn mistakes_are_named() {
        let text = |p| deal(&table(30), &p, "y", 0.3, 1).unwrap_err().to_string();
        assert!(text(Partition::Column { column: "bank".into() }).contains("hospital, y, x"));
        assert!(text(Partition::Iid { sites: 0 }).contains("partition.sites"));
        assert!(text(Partition::Iid { sites: 31 }).contains("no training row"));
        assert!(text(Partition::Dirichlet { sites: 3, alpha: 0.0 }).contains("alpha"));
        assert!(text(Partition::Shards { sites: 31, per_site: 1 }).contains("shards"));
        assert!(Table::from_csv(b"a,b\n1\n").is_err());
    }

    #[test]
    fn csv_goes_round() {
        let table = Table::from_csv(b"a,b\n\"x,1\",2\n3,\"\"\n").unwrap();
        let again = Table::from_csv(&table.to_csv(&[0, 1])).unwrap();
        assert_eq!(again.column("a").unwrap(), ["x,1", "3"]);
        assert_eq!(again.column("b").unwrap(), ["2", ""]);
    }
}
