//! `koinon client profile` and `koinon client plan`: measure where a network could run, and say where it should.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use koinon_client::node::NodeError;
use koinon_client::node::profile::{self, Measured};
use koinon_client::plan::sample::Size;
use koinon_client::plan::{Candidate, Link, Profile, best, candidates};
use koinon_model::network::{Form, Network};
use koinon_proto::Digest;
use serde_json::json;

use super::client::SiteDir;
use super::infer::CodecChoice;
use crate::exit::{Exit, OrExit as _, fail};
use crate::output::{Format, say, say_json, table, thousands};

/// Where profiles are kept, in the site's folder.
const FOLDER: &str = "profiles";

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct ProfileArguments {
    #[command(flatten)]
    site: SiteDir,
    /// The model folder, as `koinon model pull` or `koinon model import` makes it.
    #[arg(long)]
    model: PathBuf,
    /// Address of the partition server.
    #[arg(long)]
    partition: String,
    /// Rows of one question.
    #[arg(long, default_value_t = 1)]
    rows: usize,
    /// Length of every other free side: the words of a text.
    #[arg(long, default_value_t = 32)]
    length: usize,
    /// Text or JSON.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// What to plan.
#[derive(clap::Args)]
pub(crate) struct PlanArguments {
    #[command(flatten)]
    site: SiteDir,
    /// The model folder.
    #[arg(long)]
    model: PathBuf,
    /// Plan for another round trip, in milliseconds, than the one that was measured.
    #[arg(long)]
    rtt_ms: Option<f64>,
    /// Plan for another bandwidth, in megabits a second.
    #[arg(long)]
    mbit: Option<f64>,
    /// The coarsest way of writing activations that is taken: each trades bytes for accuracy.
    #[arg(long, value_enum, default_value_t = CodecChoice::F32)]
    codec: CodecChoice,
    /// Text or JSON.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// A network from its folder, with the digests of its two files.
pub(crate) fn read_network(folder: &Path) -> anyhow::Result<(Network, (Digest, Digest))> {
    for form in Form::ALL {
        let [graph, values] = form.files().map(|name| folder.join(name));
        if !graph.exists() {
            continue;
        }
        let read = |path: &Path| {
            std::fs::read(path).with_context(|| path.display().to_string()).or_exit(Exit::Config)
        };
        let (graph, values) = (read(&graph)?, read(&values)?);
        let network = Network::read(form, &graph, &values).or_exit(Exit::Config)?;
        return Ok((network, (Digest::of(&graph), Digest::of(&values))));
    }
    let what = format!(
        "{}: no model folder; `koinon model pull` or `koinon model import` makes one",
        folder.display()
    );
    Err(fail(Exit::Config, what))
}

pub(crate) fn profile(a: &ProfileArguments) -> anyhow::Result<()> {
    let (network, names) = read_network(&a.model)?;
    let measured = Measured {
        dir: &a.site.dir,
        server: &a.partition,
        network: Arc::new(network),
        names,
        size: Size { rows: a.rows.max(1), length: a.length.max(1) },
    };
    let bar = indicatif::ProgressBar::new(0);
    let progress = |done: usize, all: usize| {
        bar.set_length(all as u64);
        bar.set_position(done as u64);
    };
    let profile = super::runtime()?
        .block_on(profile::measure(&measured, &progress))
        .or_code(NodeError::exit_code)?;
    bar.finish_and_clear();
    let path = path_of(&a.site.dir, &names.1);
    std::fs::create_dir_all(a.site.dir.join(FOLDER)).or_exit(Exit::State)?;
    let text = serde_json::to_vec_pretty(&profile).or_exit(Exit::State)?;
    std::fs::write(&path, text).with_context(|| path.display().to_string()).or_exit(Exit::State)?;
    if a.format == Format::Json {
        return say_json(&profile);
    }
    let mut rows =
        vec![["cut", "after", "head here", "rest there", "f32 bytes"].map(String::from).to_vec()];
    for cut in &profile.cuts {
        let bytes = cut.codecs.first().map_or(0, |codec| codec.bytes as u64);
        rows.push(vec![
            cut.position.to_string(),
            cut.after.clone(),
            time(cut.head_us),
            time(cut.tail_us),
            thousands(bytes),
        ]);
    }
    say(table(&rows));
    say(format!(
        "all here {}; link: round trip {}, {:.0} Mbit/s; kept in {}",
        time(profile.here_us),
        time(profile.link.rtt_us()),
        profile.link.bytes_per_s() * 8e-6,
        path.display()
    ));
    say("next: `koinon client plan` with the same --dir and --model");
    Ok(())
}

pub(crate) fn plan(a: &PlanArguments) -> anyhow::Result<()> {
    let (_, names) = read_network(&a.model)?;
    let profile = read_profile(&a.site.dir, &names.1)?.up_to(a.codec.into());
    let link = assumed(&profile.link, a)?;
    let all = candidates(&profile, &link);
    let chosen = best(&all).unwrap_or(0);
    if a.format == Format::Json {
        let list = all.iter().enumerate().map(|(at, one)| {
            json!({
                "cut": one.cut, "after": one.after, "codec": one.codec.name(), "bytes": one.bytes,
                "p50_us": one.p50_us, "here_us": one.parts_us[0], "link_us": one.parts_us[1],
                "there_us": one.parts_us[2], "chosen": at == chosen,
            })
        });
        let list: Vec<_> = list.collect();
        return say_json(&json!({
            "rtt_us": link.rtt_us(), "bytes_per_s": link.bytes_per_s(), "rows": profile.rows, "candidates": list,
        }));
    }
    let head = ["", "placement", "codec", "bytes", "predicted p50", "here", "link", "there"];
    let mut rows = vec![head.map(String::from).to_vec()];
    for (at, one) in all.iter().enumerate() {
        rows.push(row(one, at == chosen));
    }
    say(table(&rows));
    say(reason(&all, chosen));
    Ok(())
}

/// What was measured of a version at a site.
pub(crate) fn read_profile(dir: &Path, version: &Digest) -> anyhow::Result<Profile> {
    let path = path_of(dir, version);
    let bytes = std::fs::read(&path)
        .with_context(|| format!("{}: measure first, with `koinon client profile`", path.display()))
        .or_exit(Exit::Config)?;
    serde_json::from_slice(&bytes)
        .with_context(|| format!("{}: measure again, with `koinon client profile`", path.display()))
        .or_exit(Exit::Config)
}

/// The measured link, or the one that the caller supposes.
fn assumed(measured: &Link, a: &PlanArguments) -> anyhow::Result<Link> {
    let rtt_us = a.rtt_ms.map_or(measured.rtt_us(), |ms| ms * 1e3);
    let bytes_per_s = a.mbit.map_or(measured.bytes_per_s(), |mbit| mbit * 125e3);
    let good = |number: f64| number.is_finite() && number > 0.0;
    if !good(rtt_us) || !good(bytes_per_s) {
        return Err(fail(Exit::Usage, "--rtt-ms and --mbit must be above 0"));
    }
    Ok(Link::new(rtt_us, bytes_per_s))
}

fn row(one: &Candidate, chosen: bool) -> Vec<String> {
    let mark = if chosen { "→" } else { "" };
    let place = match one.cut {
        None => "all here".to_owned(),
        Some(cut) => format!("cut {cut}, after {}", one.after),
    };
    let codec = one.cut.map_or("", |_| one.codec.name());
    let [here, link, there] = one.parts_us.map(time);
    let bytes = thousands(one.bytes as u64);
    vec![mark.into(), place, codec.into(), bytes, time(one.p50_us), here, link, there]
}

fn reason(all: &[Candidate], chosen: usize) -> String {
    let (one, here) = (&all[chosen], &all[0]);
    match one.cut {
        None => {
            "all here: no permitted placement over this link is predicted to be faster".to_owned()
        }
        Some(cut) => format!(
            "cut {cut} as {}: predicted {:.1} times as fast as all here",
            one.codec.name(),
            here.p50_us / one.p50_us
        ),
    }
}

fn path_of(dir: &Path, version: &Digest) -> PathBuf {
    dir.join(FOLDER).join(format!("{}.json", version.short()))
}

/// Microseconds for people.
fn time(us: f64) -> String {
    if us < 1_000.0 { format!("{us:.0} µs") } else { format!("{:.2} ms", us / 1e3) }
}
