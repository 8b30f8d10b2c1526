//! Planning a task's noise where its file leaves it out, and checking it where it does not.
//!
//! What is sent always carries the noise, and the sites compute epsilon from it again. Start at
//! [`settle`].

use koinon_aggregation::privacy::{Mechanism, Planned};
use koinon_client::budget;
use koinon_proto::task::PrivacyUnit;

use super::taskfile::Task;
use crate::exit::{Exit, fail};

/// Fills in the noise multiplier of a private task, or holds the one that is there to the stated
/// epsilon; says what it does.
///
/// # Errors
/// What the sites would refuse, with the arithmetic.
pub(crate) fn settle(task: &mut Task, name: &str) -> anyhow::Result<()> {
    let Some(mut privacy) = task.manifest.privacy else { return Ok(()) };
    let refuse = |why: String| Err(fail(Exit::Config, format!("{name}: {why}")));
    if let Some(need) = task.features.as_ref().and_then(|features| features.needs_fitting()) {
        return refuse(format!("a private task collects no statistics, but {need}"));
    }
    if let (PrivacyUnit::Record, Some(training)) = (privacy.unit, &task.training)
        && let Err(error) = training.check_single_step()
    {
        return refuse(error.to_string());
    }
    // A model named by digest is not at hand: then the file must say its noise, and the sites check it.
    let Some(dimension) = task.spec.as_ref().map(|spec| spec.layout().trainable()) else {
        return match privacy.noise_multiplier {
            Some(_) => Ok(()),
            None => refuse("to plan the noise the model must be named by its file".into()),
        };
    };
    let planned = match budget::plan_noise(&task.manifest, dimension) {
        Some(Ok(planned)) => planned,
        Some(Err(why)) => return refuse(why.to_string()),
        None => return Ok(()),
    };
    let multiplier = privacy.noise_multiplier.unwrap_or(planned.step.noise_multiplier);
    privacy.noise_multiplier = Some(multiplier);
    task.manifest.privacy = Some(privacy);
    let mechanism = budget::mechanism(&task.manifest, dimension);
    let mechanism = mechanism.expect("the task is private and its noise was just set");
    let steps = privacy.steps(task.manifest.rounds);
    let spent = mechanism.epsilon(steps, privacy.delta);
    if spent > privacy.epsilon {
        return refuse(format!(
            "noise_multiplier {multiplier} spends epsilon {spent:.3} over {steps} steps, the task says {}; \
             leave it out and it is planned: {}",
            privacy.epsilon, planned.step.noise_multiplier
        ));
    }
    task.planned = Some(words(task, &mechanism, &planned, spent));
    Ok(())
}

fn words(task: &Task, mechanism: &Mechanism, planned: &Planned, spent: f64) -> String {
    let Some(privacy) = task.manifest.privacy else { return String::new() };
    let steps = privacy.steps(task.manifest.rounds);
    let (unit, delta) = (privacy.unit, privacy.delta);
    // With another multiplier than the planned one, its noise grows with it.
    let factor = mechanism.noise_multiplier / planned.step.noise_multiplier;
    format!(
        "privacy   unit {unit}: epsilon {spent:.3} at delta {delta} over {steps} steps ({} rounds, {} retries)\n\
         noise     {} x the clip on each entry's sum, carried by {} of at least {} sites; on the mean {:.3} x the clip in L2",
        task.manifest.rounds,
        privacy.retries,
        mechanism.noise_multiplier,
        mechanism.sites_honest,
        task.manifest.cohort.min,
        factor * planned.noise_over_clip
    )
}

#[cfg(test)]
mod tests {
    use koinon_proto::TaskManifest;

    use super::*;
    use crate::commands::task::{Example, example_files};
    use crate::commands::taskfile;

    /// The private example with changes, read as a person's folder is.
    fn read(changes: &[(&str, &str)]) -> anyhow::Result<Task> {
        let dir = tempfile::tempdir()?;
        for (name, text) in example_files(Example::HospitalsPrivate) {
            let text = changes.iter().fold(text.to_owned(), |t, (from, to)| t.replace(from, to));
            std::fs::write(dir.path().join(name), text)?;
        }
        taskfile::read(dir.path())
    }

    #[test]
    fn noise_that_is_left_out_is_planned_and_travels() {
        let task = read(&[]).unwrap();
        let noise = task.manifest.privacy.unwrap().noise_multiplier.unwrap();
        assert!(noise > 1.0 && noise < 1.5, "{noise}");
        let words = task.planned.unwrap();
        assert!(words.contains("unit record: epsilon 8.000 at delta 0.0001"), "{words}");
        let sent = TaskManifest::parse_json(&task.manifest.to_canonical_json()).unwrap();
        assert_eq!(sent, task.manifest);
    }

    #[test]
    fn what_the_sites_would_refuse_is_refused_before_it_is_sent() {
        let given = "# noise_multiplier = 1.0";
        for (changes, part) in [
            (vec![("epsilon = 8.0", "epsilon = 0.05")], "drown the model"),
            (vec![(given, "noise_multiplier = 1.0")], "spends epsilon"),
            (vec![("scaling = \"bounds\"", "scaling = \"standard\"")], "collects no statistics"),
            (vec![("epochs = 1", "epochs = 3")], "`epochs` is 3"),
            (vec![("delta = 0.0001", "delta = 0.01")], "privacy.delta"),
        ] {
            let error = format!("{:#}", read(&changes).err().unwrap());
            assert!(error.contains(part), "{changes:?}: {error}");
        }
        assert!(read(&[(given, "noise_multiplier = 2.0")]).is_ok());
    }
}
