//! `rmr-rpc top`: what reactors, bdevs and replication do, anew every second.
//!
//! `sample.rs` counters and rates · `pools.rs` those of replication · `screen.rs` what is shown · `terminal.rs` where. All that is known comes over the
//! RPC socket; nothing in the target is reset or switched on for it.

mod pools;
mod sample;
mod screen;
mod terminal;

use crate::client::Client;
use crate::error::Error;
use clap::{Arg, ArgAction, ArgMatches, Command};
use pools::Pools;
use sample::{Rates, Sample};
use screen::{ORDERS, Order, screen, sort, tables};
use serde_json::{Value, json};
use std::io;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};
use terminal::{Input, Terminal};

/// The first figures come soon, over a shorter time.
const FIRST_INTERVAL: Duration = Duration::from_millis(250);

const NOTES: &str = "\
MEAN is of the IOs that ended in the interval, MAX the longest since bdev_reset_iostat. IN FLIGHT is worked out from
the latencies; SAMPLED is what the target saw last, after bdev_set_qd_sampling_period. ERRORS are since the last reset.
Replicated devices show their legs, stores what they have TO COPY and, if it goes on like that, when that is DONE.
With --once the rates of one interval are printed, with --json as JSON: for scripts.";

/// Its part of the command line.
pub(crate) fn command() -> Command {
    let interval = Arg::new("interval")
        .short('i')
        .long("interval")
        .value_name("SECONDS")
        .default_value("1")
        .help("Time between two looks")
        .value_parser(crate::command::seconds);
    let sort = Arg::new("sort")
        .long("sort")
        .value_name("ORDER")
        .default_value("iops")
        .value_parser(ORDERS.map(|(_, _, word)| word))
        .help("By what bdevs are sorted");
    let once =
        Arg::new("once").long("once").action(ArgAction::SetTrue).help("Look for one interval, print, end");
    Command::new("top")
        .about("Watch reactors, bdevs and replication: busy time, IOPS, bandwidth, latency, errors, what is to be copied")
        .after_help(NOTES)
        .args([interval, sort, once])
}

/// What is printed at the end, if anything.
pub(crate) enum Ended {
    /// Text for people and the same for programs.
    Once { text: String, json: Value },
    /// Whoever watched has seen enough.
    Quit,
}

/// Runs until it is told to quit, or for one interval.
pub(crate) fn run(socket: &Path, limit: Duration, matches: &ArgMatches) -> Result<Ended, Error> {
    let interval = matches.get_one::<f64>("interval").copied().unwrap_or(1.0);
    let interval = Duration::from_secs_f64(interval);
    let order = matches.get_one::<String>("sort").and_then(|word| Order::of_word(word)).unwrap_or_default();
    let mut client = Client::connect(socket, limit)?;
    let first = sample(&mut client)?;
    if matches.get_flag("once") {
        sleep(interval);
        let mut rates = sample(&mut client)?.since(&first);
        sort(&mut rates, order);
        let text = tables(&rates, crate::show::terminal_width());
        return Ok(Ended::Once { text, json: json!(rates) });
    }
    let broken =
        |why: io::Error| Error::Broken { method: "top".to_owned(), why: format!("the terminal: {why}") };
    let Some(terminal) = Terminal::take().map_err(broken)? else {
        let words = "top needs a terminal; `rmr-rpc top --once` prints the rates of one interval";
        return Err(Error::Usage(words.to_owned()));
    };
    let mut top =
        Top { client, terminal, head: format!("rmr-rpc top: {}", socket.display()), order, scroll: 0 };
    top.watch(first, interval, broken).map(|()| Ended::Quit)
}

/// The running view.
struct Top {
    client: Client,
    terminal: Terminal,
    head: String,
    order: Order,
    scroll: usize,
}

impl Top {
    fn watch(
        &mut self,
        mut before: Sample,
        interval: Duration,
        broken: impl Fn(io::Error) -> Error + Copy,
    ) -> Result<(), Error> {
        let mut rates = before.since(&before);
        let mut next = Instant::now() + interval.min(FIRST_INTERVAL);
        loop {
            while Instant::now() < next {
                self.draw(&mut rates).map_err(broken)?;
                match self.terminal.wait(next).map_err(broken)? {
                    Input::Quit => return Ok(()),
                    Input::Key(key) => self.order = Order::of_key(key).unwrap_or(self.order),
                    Input::Scroll { down: true } => self.scroll = self.scroll.saturating_add(1),
                    Input::Scroll { down: false } => self.scroll = self.scroll.saturating_sub(1),
                    Input::Nothing => {}
                }
            }
            let now = sample(&mut self.client)?;
            rates = now.since(&before);
            before = now;
            next = Instant::now() + interval;
        }
    }

    fn draw(&mut self, rates: &mut Rates) -> io::Result<()> {
        sort(rates, self.order);
        let (columns, rows) = self.terminal.size();
        // The end of the page is where scrolling ends.
        let lines = tables(rates, Some(columns)).lines().count();
        self.scroll = self.scroll.min(lines.saturating_sub(usize::from(rows).saturating_sub(3)));
        self.terminal.show(&screen(&self.head, rates, self.order, self.scroll, columns, rows))
    }
}

fn sample(client: &mut Client) -> Result<Sample, Error> {
    // Close to each other: the reactors first, as asking them takes longer.
    let reactors = client.call("framework_get_reactors", None)?;
    let iostat = client.call("bdev_get_iostat", None)?;
    let devices = if_there(client, "bdev_brmr_get_devices")?;
    let stores = if_there(client, "rmr_get_server_pools")?;
    let sample = Sample::of(&reactors, &iostat).map_err(|member| Error::Broken {
        method: "top".to_owned(),
        why: format!("the target's answers have no member \"{member}\""),
    })?;
    Ok(sample.with(Pools::of(&devices, &stores)))
}

/// Null from a target that refuses: it does not know the method, or a pool went just now.
fn if_there(client: &mut Client, method: &str) -> Result<Value, Error> {
    match client.call(method, Some(&json!({}))) {
        Err(Error::Refused { .. }) => Ok(Value::Null),
        answered => answered,
    }
}
