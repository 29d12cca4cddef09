//! The outcome for people: what was run, where, and a table.

use crate::outcome::{Figures, Outcome};
use crate::setting::Setting;
use crate::units;
use comfy_table::{CellAlignment, LineStyle, Table, TableStyle};
use perf_load::Latency;

/// A column: its header, and what it shows of a row.
type Column = (&'static str, fn(&Row<'_>) -> String);

const NAMES: [Column; 2] = [("bdev", |row| row.bdev.to_owned()), ("core", |row| row.core.clone())];

const RATES: [Column; 3] = [
    ("IOPS", |row| units::count(row.figures.report.iops)),
    ("MiB/s", |row| units::mib(row.figures.report.mib_s)),
    ("errors", |row| row.figures.report.errors.to_string()),
];

const LATENCIES: [Column; 8] = [
    ("mean", |row| row.latency(|latency| latency.mean)),
    ("min", |row| row.latency(|latency| latency.min as f64)),
    ("p50", |row| row.latency(|latency| latency.p50 as f64)),
    ("p90", |row| row.latency(|latency| latency.p90 as f64)),
    ("p99", |row| row.latency(|latency| latency.p99 as f64)),
    ("p99.9", |row| row.latency(|latency| latency.p99_9 as f64)),
    ("p99.99", |row| row.latency(|latency| latency.p99_99 as f64)),
    ("max", |row| row.latency(|latency| latency.max as f64)),
];

/// A line of the table: a job, a bdev on several cores, or everything.
struct Row<'o> {
    bdev: &'o str,
    core: String,
    figures: &'o Figures,
}

impl Row<'_> {
    fn latency(&self, of: fn(&Latency) -> f64) -> String {
        self.figures
            .report
            .latency_ns
            .as_ref()
            .map_or_else(|| "-".to_owned(), |latency| units::time(of(latency)))
    }
}

/// Columns of the terminal, if standard output is one.
pub(crate) fn terminal_width() -> Option<usize> {
    Table::new().width().map(usize::from)
}

/// The whole text. In a narrow terminal the latencies get a table of their own.
pub(crate) fn page(outcome: &Outcome, width: Option<usize>) -> String {
    let rows = rows(outcome);
    let rates = [&NAMES[..], &RATES].concat();
    let tables = if outcome.latency_ns.is_none() {
        vec![table(&rates, &rows)]
    } else {
        let one = table(&[&rates[..], &LATENCIES].concat(), &rows);
        let fits = width.is_none_or(|width| one.lines().all(|line| line.chars().count() <= width));
        if fits {
            vec![one]
        } else {
            vec![table(&rates, &rows), table(&[&NAMES[..], &LATENCIES].concat(), &rows)]
        }
    };
    let mut page = head(outcome);
    page.extend(notes(outcome));
    page.push(String::new());
    page.push(tables.join("\n\n"));
    page.extend(errors(outcome));
    page.join("\n") + "\n"
}

/// What was run, and what makes the figures comparable.
fn head(outcome: &Outcome) -> Vec<String> {
    let Outcome { workload, queue_depth, io_bytes, seed, setting, total, .. } = outcome;
    let reads = outcome.read_percent.map_or_else(String::new, |percent| format!(" ({percent} % reads)"));
    let size = units::bytes(u64::from(*io_bytes));
    let (ios, seconds) = (units::whole(total.report.ios), total.report.seconds);
    vec![
        format!(
            "{workload}{reads} {size}, queue depth {queue_depth} per job, seed {seed}: {ios} IOs in {seconds:.2} s"
        ),
        format!(
            "rmr-perf {}, {}, {}, {}",
            outcome.version,
            setting.processor.as_deref().unwrap_or("unknown processor"),
            cores(setting),
            sleep(setting)
        ),
        format!(
            "{}; latencies from a counter of {:.2} GHz",
            memory(setting),
            setting.tick_rate_hz as f64 / 1e9
        ),
    ]
}

fn cores(setting: &Setting) -> String {
    let numbers: Vec<String> = setting.cores.iter().map(u32::to_string).collect();
    format!("{} {}", if numbers.len() == 1 { "core" } else { "cores" }, numbers.join(", "))
}

fn sleep(setting: &Setting) -> String {
    setting.spin_us.map_or_else(|| "never sleeps".to_owned(), |spin| format!("sleeps after {spin} µs idle"))
}

fn memory(setting: &Setting) -> String {
    let parts = [(setting.hugepage_bytes, "hugepages"), (setting.ordinary_page_bytes, "ordinary pages")];
    let used: Vec<String> = parts
        .iter()
        .filter(|(bytes, _)| *bytes > 0)
        .map(|(bytes, kind)| format!("{} on {kind}", units::bytes(*bytes)))
        .collect();
    if used.is_empty() { "no DMA memory".to_owned() } else { format!("DMA memory: {}", used.join(", ")) }
}

/// What a reader of the figures must know.
fn notes(outcome: &Outcome) -> Vec<String> {
    let mut notes = Vec::new();
    if outcome.setting.build == "debug" {
        notes.push("note: this is a debug build, its figures mean nothing: build with --release".to_owned());
    }
    if outcome.ended_early {
        notes.push("note: ended early, by a signal".to_owned());
    }
    let busy: Vec<u32> = outcome.bdevs.iter().flat_map(|bdev| &bdev.cores).map(|on| on.core).collect();
    let jobs_on = |core: &u32| busy.iter().filter(|busy| *busy == core).count();
    let unused: Vec<String> =
        outcome.setting.cores.iter().filter(|core| jobs_on(core) == 0).map(u32::to_string).collect();
    if !unused.is_empty() {
        let unused = unused.join(", ");
        notes.push(format!(
            "note: nothing ran on core {unused}: each bdev goes to one core; -C loads it from all"
        ));
    }
    if busy.iter().any(|core| jobs_on(core) > 1) {
        notes.push("note: bdevs on the same core shared it; -b measures one alone".to_owned());
    }
    notes
}

/// Jobs; below those of a bdev on several cores their sum; below several bdevs the sum of all.
fn rows(outcome: &Outcome) -> Vec<Row<'_>> {
    let mut rows = Vec::new();
    for bdev in &outcome.bdevs {
        let job = |on: &crate::outcome::CoreFigures| on.core.to_string();
        rows.extend(bdev.cores.iter().map(|on| Row {
            bdev: &bdev.name,
            core: job(on),
            figures: &on.figures,
        }));
        if bdev.cores.len() > 1 {
            rows.push(Row { bdev: &bdev.name, core: "all".to_owned(), figures: &bdev.figures });
        }
    }
    if outcome.bdevs.len() > 1 {
        rows.push(Row { bdev: "total", core: String::new(), figures: &outcome.total });
    }
    rows
}

fn table(columns: &[Column], rows: &[Row<'_>]) -> String {
    let mut table = Table::new();
    table.load_style(TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─')));
    table.set_header(columns.iter().map(|(name, _)| *name));
    table.add_rows(rows.iter().map(|row| columns.iter().map(|(_, show)| show(row)).collect::<Vec<_>>()));
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 1));
        if index > 0 {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.trim_fmt()
}

/// One line per job that had errors.
fn errors(outcome: &Outcome) -> Vec<String> {
    let mut lines = Vec::new();
    for bdev in &outcome.bdevs {
        for on in &bdev.cores {
            let (name, core) = (&bdev.name, on.core);
            if let Some(first) = &on.figures.first_error {
                let (errors, ios) = (on.figures.report.errors, on.figures.report.ios);
                lines.push(format!(
                    "{name} on core {core}: {errors} of {ios} IOs failed, the first with \"{first}\""
                ));
            }
            if let Some(wrong) = &on.figures.wrong {
                lines.push(format!("{name} on core {core}: WRONG: {wrong}"));
            }
        }
    }
    if !lines.is_empty() {
        lines.insert(0, String::new());
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::{BdevFigures, CoreFigures};
    use perf_load::Report;

    fn figures(ios: u64, errors: u64) -> Figures {
        let latency = Latency {
            mean: 5120.5,
            min: 41,
            p50: 5000,
            p90: 6000,
            p99: 7000,
            p99_9: 8000,
            p99_99: 9000,
            max: 1_000_000,
        };
        let report = Report {
            ios,
            errors,
            iops: ios as f64,
            mib_s: ios as f64 / 256.0,
            seconds: 1.0,
            latency_ns: Some(latency),
        };
        Figures {
            report,
            first_error: (errors > 0).then(|| "write fault (SCT 2, SC 0x80)".to_owned()),
            wrong: None,
        }
    }

    fn outcome(bdevs: &[(&str, &[u32])]) -> Outcome {
        let bdev = |(name, cores): &(&str, &[u32])| BdevFigures {
            name: (*name).to_owned(),
            figures: figures(2000, 0),
            cores: cores.iter().map(|core| CoreFigures { core: *core, figures: figures(1000, 0) }).collect(),
        };
        let total = figures(4000, 0);
        Outcome {
            version: "0.1.0",
            workload: "randrw",
            read_percent: Some(70),
            queue_depth: 128,
            io_bytes: 4096,
            seconds_asked: Some(1.0),
            ios_asked: None,
            seed: 1,
            setting: Setting {
                build: "release",
                processor: Some("A Processor".to_owned()),
                cores: vec![0, 1],
                every_core: false,
                tick_rate_hz: 2_600_000_000,
                sleep_policy: "adaptive",
                spin_us: Some(50),
                hugepage_bytes: 4 << 20,
                ordinary_page_bytes: 0,
                page_bytes: 2 << 20,
            },
            ended_early: false,
            iops: total.report.iops,
            mib_s: total.report.mib_s,
            latency_ns: total.report.latency_ns,
            total,
            bdevs: bdevs.iter().map(bdev).collect(),
        }
    }

    /// First words of the table's lines.
    fn rows_of(page: &str) -> Vec<String> {
        let lines = page.lines().skip_while(|line| !line.starts_with('─')).skip(1);
        lines.map(|line| line.split_whitespace().take(2).collect::<Vec<_>>().join(" ")).collect()
    }

    #[test]
    fn each_job_has_a_row_and_sums_stand_below_what_they_add_up() {
        let page = page(&outcome(&[("N0", &[0, 1]), ("N1", &[0])]), None);
        assert_eq!(rows_of(&page), ["N0 0", "N0 1", "N0 all", "N1 0", "total 4.00k"], "{page}");
    }

    #[test]
    fn a_single_job_has_a_single_row() {
        let page = page(&outcome(&[("N0", &[0])]), None);
        assert_eq!(rows_of(&page), ["N0 0"], "{page}");
        for part in [
            "randrw (70 % reads) 4 KiB",
            "queue depth 128",
            "A Processor",
            "cores 0, 1",
            "after 50 µs",
            "4 MiB on hugepages",
            "2.60 GHz",
            "5.12µs",
            "1.00ms",
        ] {
            assert!(page.contains(part), "{part}: {page}");
        }
    }

    #[test]
    fn a_narrow_terminal_gets_two_tables_that_fit() {
        let outcome = outcome(&[("Malloc0", &[0, 1])]);
        let (wide, narrow) = (page(&outcome, Some(200)), page(&outcome, Some(80)));
        assert_eq!((wide.matches("bdev ").count(), narrow.matches("bdev ").count()), (1, 2));
        let table = narrow.split_once("\n\n").expect("a table below the head").1;
        assert!(table.lines().all(|line| line.chars().count() <= 80), "{narrow}");
    }

    #[test]
    fn what_a_reader_must_know_is_noted() {
        let mut early = outcome(&[("N0", &[0])]);
        early.ended_early = true;
        early.setting.build = "debug";
        early.setting.spin_us = None;
        let page = page(&early, None);
        for part in ["ended early", "debug build", "nothing ran on core 1", "-C", "never sleeps"] {
            assert!(page.contains(part), "{part}: {page}");
        }
    }

    #[test]
    fn bdevs_that_shared_a_core_are_noted() {
        let note = "shared";
        assert!(page(&outcome(&[("N0", &[0]), ("N1", &[0])]), None).contains(note));
        assert!(!page(&outcome(&[("N0", &[0]), ("N1", &[1])]), None).contains(note));
    }

    #[test]
    fn errors_are_told_in_words() {
        let mut failed = outcome(&[("N0", &[0])]);
        failed.bdevs[0].cores[0].figures = figures(128, 3);
        let page = page(&failed, None);
        assert!(
            page.contains(
                "N0 on core 0: 3 of 128 IOs failed, the first with \"write fault (SCT 2, SC 0x80)\""
            ),
            "{page}"
        );
    }

    #[test]
    fn without_latencies_there_are_no_columns_for_them() {
        let mut without = outcome(&[("N0", &[0])]);
        without.latency_ns = None;
        let page = page(&without, None);
        assert!(page.contains("IOPS") && !page.contains("p99"), "{page}");
    }
}
