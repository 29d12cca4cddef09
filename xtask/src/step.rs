//! Running steps in order and summing up.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use comfy_table::Table;

use crate::error::Error;
use crate::project::Project;

/// One part of `ci`.
pub(crate) struct Step {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    /// Steps that must run before this one, also when only this one was asked for.
    pub(crate) needs: &'static [&'static str],
    pub(crate) run: fn(&Context<'_>) -> Result<Outcome, Error>,
}

/// A step, or a job of another command, ready to run.
pub(crate) struct Part<'f> {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) needs: &'static [&'static str],
    pub(crate) run: Run<'f>,
}

pub(crate) type Run<'f> = Box<dyn Fn(&Context<'_>) -> Result<Outcome, Error> + 'f>;

impl From<&Step> for Part<'_> {
    fn from(step: &Step) -> Self {
        Part { name: step.name, about: step.about, needs: step.needs, run: Box::new(step.run) }
    }
}

/// How a step that did not fail ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It did its work, perhaps less what it noted as left out.
    Passed,
    /// It did nothing, and noted why.
    Skipped,
}

/// What a step is given.
pub(crate) struct Context<'a> {
    pub(crate) project: &'a Project,
    /// Install nothing and change no setting of the machine.
    pub(crate) no_install: bool,
    left_out: RefCell<Vec<String>>,
}

impl<'a> Context<'a> {
    pub(crate) fn new(project: &'a Project, no_install: bool) -> Context<'a> {
        Context { project, no_install, left_out: RefCell::default() }
    }

    /// Says in one line what is not done and why; the summary repeats it.
    pub(crate) fn leave_out(&self, line: String) {
        println!("left out: {line}");
        self.left_out.borrow_mut().push(line);
    }

    /// [`Context::leave_out`] for a whole step.
    pub(crate) fn skip(&self, line: String) -> Result<Outcome, Error> {
        self.leave_out(line);
        Ok(Outcome::Skipped)
    }
}

struct Line {
    name: &'static str,
    outcome: &'static str,
    took: Duration,
    left_out: Vec<String>,
}

impl Line {
    /// Of a part that must not run because one it needs fell.
    fn not_run(part: &Part<'_>, need: &str) -> Line {
        println!("\n=== {}: not run, it needs {need}", part.name);
        let left_out = vec![format!("needs {need}")];
        Line { name: part.name, outcome: "NOT RUN", took: Duration::ZERO, left_out }
    }

    /// Failed, or could not run because another failed.
    fn fell(&self) -> bool {
        matches!(self.outcome, "FAILED" | "NOT RUN")
    }
}

/// The steps of `all` that are named in `only`, with all they need, in the order of `all`; all for an empty `only`.
pub(crate) fn select<'s>(all: &'s [Step], only: &[String]) -> Vec<&'s Step> {
    let mut wanted: Vec<&str> = only.iter().map(String::as_str).collect();
    // A step needs only steps before it: one pass from the back finds all.
    for step in all.iter().rev() {
        if wanted.contains(&step.name) {
            wanted.extend(step.needs);
        }
    }
    all.iter().filter(|step| only.is_empty() || wanted.contains(&step.name)).collect()
}

/// Runs `parts`, stops at the first failure unless told to go on, and prints the summary in every case.
pub(crate) fn run_all(context: &Context<'_>, parts: &[Part<'_>], keep_going: bool) -> Result<(), Error> {
    let start = Instant::now();
    let mut lines: Vec<Line> = Vec::new();
    for part in parts {
        let fallen = part.needs.iter().find(|need| lines.iter().any(|l| l.name == **need && l.fell()));
        let line = match fallen {
            Some(need) => Line::not_run(part, need),
            None => run_one(context, part),
        };
        let failed = line.fell();
        lines.push(line);
        if failed && !keep_going {
            break;
        }
    }
    print_summary(&lines, parts.len(), start.elapsed());
    let failed: Vec<_> = lines.iter().filter(|line| line.fell()).map(|line| line.name).collect();
    if failed.is_empty() { Ok(()) } else { Err(Error::Steps(failed)) }
}

fn run_one(context: &Context<'_>, part: &Part<'_>) -> Line {
    println!("\n=== {}: {}", part.name, part.about);
    let start = Instant::now();
    let outcome = match (part.run)(context) {
        Ok(Outcome::Passed) => "passed",
        Ok(Outcome::Skipped) => "skipped",
        Err(error) => {
            println!("{error}");
            "FAILED"
        }
    };
    let took = start.elapsed();
    println!("=== {}: {outcome}, {}", part.name, shown(took));
    Line { name: part.name, outcome, took, left_out: context.left_out.take() }
}

fn print_summary(lines: &[Line], asked: usize, whole: Duration) {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::ASCII_MARKDOWN);
    table.set_header(["step", "outcome", "time", "left out"]);
    for line in lines {
        let left_out = line.left_out.join("\n");
        table.add_row([line.name, line.outcome, &shown(line.took), &left_out]);
    }
    println!("\n{table}");
    if lines.len() < asked {
        println!("stopped at the first failure; {} step(s) did not run", asked - lines.len());
    }
    println!("whole run: {}", shown(whole));
}

/// A time as people read it: `4.2 s`, `3 min 07 s`.
pub(crate) fn shown(time: Duration) -> String {
    let seconds = time.as_secs();
    if seconds < 60 {
        format!("{:.1} s", time.as_secs_f64())
    } else {
        format!("{} min {:02} s", seconds / 60, seconds % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEPS: &[Step] = &[
        Step { name: "a", about: "", needs: &[], run: |_| Ok(Outcome::Passed) },
        Step { name: "b", about: "", needs: &["a"], run: |_| Ok(Outcome::Passed) },
        Step { name: "c", about: "", needs: &[], run: |_| Err(Error::Complaints(vec![])) },
        Step { name: "d", about: "", needs: &["b"], run: |_| Ok(Outcome::Passed) },
    ];

    fn names(only: &[&str]) -> Vec<&'static str> {
        let only: Vec<String> = only.iter().map(ToString::to_string).collect();
        select(STEPS, &only).iter().map(|step| step.name).collect()
    }

    #[test]
    fn a_step_brings_all_it_needs_in_order() {
        assert_eq!(names(&["d"]), ["a", "b", "d"]);
        assert_eq!(names(&["c"]), ["c"]);
        assert_eq!(names(&[]), ["a", "b", "c", "d"]);
    }

    #[test]
    fn a_failing_step_fails_the_run_also_when_the_rest_goes_on() {
        let project = Project::find().expect("inside the checkout");
        let context = Context::new(&project, true);
        for keep_going in [false, true] {
            let all: Vec<Part<'_>> = STEPS.iter().map(Part::from).collect();
            let error = run_all(&context, &all, keep_going).expect_err("c fails");
            assert!(matches!(error, Error::Steps(failed) if failed == ["c"]));
        }
        let good = STEPS.iter().filter(|step| step.name != "c");
        let good: Vec<Part<'_>> = good.map(Part::from).collect();
        run_all(&context, &good, false).expect("nothing fails");
    }

    #[test]
    fn what_needs_a_step_that_fell_does_not_run() {
        let project = Project::find().expect("inside the checkout");
        let chain = [
            Step { name: "a", about: "", needs: &[], run: |_| Err(Error::Complaints(vec![])) },
            Step { name: "b", about: "", needs: &["a"], run: |_| panic!("b must not run") },
            Step { name: "c", about: "", needs: &["b"], run: |_| panic!("nor must c") },
        ];
        let parts: Vec<Part<'_>> = chain.iter().map(Part::from).collect();
        let error = run_all(&Context::new(&project, true), &parts, true).expect_err("a fails");
        assert!(matches!(error, Error::Steps(fallen) if fallen == ["a", "b", "c"]));
    }

    #[test]
    fn times_read_well_on_both_sides_of_a_minute() {
        assert_eq!(shown(Duration::from_millis(59_940)), "59.9 s");
        assert_eq!(shown(Duration::from_secs(187)), "3 min 07 s");
    }
}
