//! What earlier runs came to, in a SQLite file: which cases, steps and checks passed on which Xen build, and when.
//!
//! Several labs may write at once; each write is one transaction. Nothing is judged by it alone: it is what `xenlab history` shows, and
//! tells a thing that failed before from one that never passed.

use rusqlite::{Connection, OptionalExtension, Transaction, params};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::time::Duration;
use xenlab_model::compare::{Key, Past, Sample, judged};
use xenlab_model::verdict::Verdict;

/// The version of the file's tables.
const FORMAT: i32 = 1;

/// How long one lab waits for another that writes.
const BUSY: Duration = Duration::from_secs(5);

/// The most runs of one case on one subject that are kept.
const KEPT: u32 = 200;

/// Why the history cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// SQLite's own word.
    #[error("{}: {source}", path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What it says.
        source: rusqlite::Error,
    },
    /// It was written by a later version of the lab.
    #[error("{}: its tables have format {found}, this xenlab knows format {FORMAT}; use the later one, or move the file away", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: i32,
    },
}

/// The file, open.
pub struct History {
    path: PathBuf,
    connection: Connection,
}

/// The run that a case was part of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunOf {
    /// Identifies it.
    pub run: String,
    /// When it began, RFC 3339 in UTC.
    pub started: String,
    /// The lab's version.
    pub lab: String,
}

/// A case's verdict at one time.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Entry {
    /// The case's id.
    pub case: String,
    /// The Xen build.
    pub subject: String,
    /// The version it carries, where that was known.
    pub version: Option<String>,
    /// When the run began.
    pub started: String,
    /// `pass`, `fail`, `error`, `skip`, `not-reached`.
    pub verdict: String,
    /// The cause's code.
    pub cause: Option<String>,
    /// It was as expected.
    pub expected: bool,
    /// Seconds it took.
    pub seconds: f64,
    /// What was said.
    pub message: String,
    /// Where it was recorded.
    pub bundle: String,
}

/// A case on one subject, counted over time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// The case's id.
    pub case: String,
    /// The Xen build.
    pub subject: String,
    /// Runs.
    pub runs: u32,
    /// Of these, how many passed.
    pub passed: u32,
    /// How many failed.
    pub failed: u32,
    /// When it ran last.
    pub last: String,
}

impl History {
    /// Opens the file, made if need be.
    ///
    /// # Errors
    /// It cannot be opened, is no such file, or is of a later version.
    pub fn open(path: &Path) -> Result<History, HistoryError> {
        let at = |source| HistoryError::Sqlite { path: path.to_owned(), source };
        let mut connection = Connection::open(path).map_err(at)?;
        connection.busy_timeout(BUSY).map_err(at)?;
        // A reader does not wait for a writer then. Where the file system cannot do it SQLite stays with what it can.
        let _: String = connection.query_row("PRAGMA journal_mode=WAL", [], |row| row.get(0)).map_err(at)?;
        connection.execute_batch("PRAGMA foreign_keys=ON; PRAGMA synchronous=NORMAL;").map_err(at)?;
        let found = prepare(&mut connection).map_err(at)?;
        if found > FORMAT {
            return Err(HistoryError::Format { path: path.to_owned(), found });
        }
        Ok(History { path: path.to_owned(), connection })
    }

    fn wrong(&self) -> impl Fn(rusqlite::Error) -> HistoryError + use<> {
        let path = self.path.clone();
        move |source| HistoryError::Sqlite { path: path.clone(), source }
    }

    /// Records a case; the same case of the same run again replaces what was recorded.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn record(&mut self, of: &RunOf, sample: &Sample) -> Result<(), HistoryError> {
        let wrong = self.wrong();
        let transaction = self.connection.transaction().map_err(&wrong)?;
        write(&transaction, of, sample).map_err(&wrong)?;
        transaction.commit().map_err(wrong)
    }

    /// How long this phase lasted in the boots of a case that passed on this architecture, whatever the Xen: seconds, ascending.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn lasted(&self, case: &str, arch: &str, phase: &str) -> Result<Vec<f64>, HistoryError> {
        let wrong = self.wrong();
        let sql = "SELECT MIN(later.seconds) - m.seconds AS lasted \
                   FROM milestones m JOIN results r ON r.id = m.result \
                   JOIN milestones later ON later.result = m.result AND later.seconds > m.seconds \
                   WHERE r.case_id = ?1 AND r.arch = ?2 AND m.phase = ?3 AND r.verdict = 'pass' \
                   GROUP BY m.result ORDER BY lasted";
        let mut statement = self.connection.prepare(sql).map_err(&wrong)?;
        let rows = statement.query_map(params![case, arch, phase], |row| row.get(0)).map_err(&wrong)?;
        rows.collect::<Result<_, _>>().map_err(wrong)
    }

    /// How often each thing passed and failed, but for the cases with these nonces, which no two runs share wherever their bundles are
    /// moved to.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn past(&self, without: &[&str]) -> Result<Past, HistoryError> {
        let wrong = self.wrong();
        let mut past = Past::new();
        let sql = "SELECT r.nonce, r.case_id, c.step, c.name, c.passed, c.failed \
                   FROM checks c JOIN results r ON r.id = c.result";
        let mut statement = self.connection.prepare(sql).map_err(&wrong)?;
        let mut rows = statement.query([]).map_err(&wrong)?;
        while let Some(row) = rows.next().map_err(&wrong)? {
            let nonce: String = row.get(0).map_err(&wrong)?;
            if !nonce.is_empty() && without.contains(&nonce.as_str()) {
                continue;
            }
            let key = Key {
                case: row.get(1).map_err(&wrong)?,
                step: row.get(2).map_err(&wrong)?,
                check: row.get(3).map_err(&wrong)?,
            };
            let counts: (u32, u32) = (row.get(4).map_err(&wrong)?, row.get(5).map_err(&wrong)?);
            let all = past.entry(key).or_default();
            all.0 += counts.0;
            all.1 += counts.1;
        }
        Ok(past)
    }

    /// Every case on every subject, the one that ran last first.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn cases(&self) -> Result<Vec<Summary>, HistoryError> {
        let wrong = self.wrong();
        let sql = "SELECT case_id, subject, COUNT(*), SUM(verdict = 'pass'), SUM(verdict = 'fail'), MAX(started) \
                   FROM results GROUP BY case_id, subject ORDER BY MAX(started) DESC, case_id, subject";
        let mut statement = self.connection.prepare(sql).map_err(&wrong)?;
        let of = |row: &rusqlite::Row<'_>| {
            Ok(Summary {
                case: row.get(0)?,
                subject: row.get(1)?,
                runs: row.get(2)?,
                passed: row.get(3)?,
                failed: row.get(4)?,
                last: row.get(5)?,
            })
        };
        let rows = statement.query_map([], of).map_err(&wrong)?;
        rows.collect::<Result<_, _>>().map_err(wrong)
    }

    /// Every time that the cases with this id, or this part of one, ran; the latest first.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn case(&self, part: &str) -> Result<Vec<Entry>, HistoryError> {
        let wrong = self.wrong();
        let sql = "SELECT case_id, subject, version, started, verdict, cause, expected, seconds, message, bundle \
                   FROM results WHERE instr(case_id || ' @ ' || subject, ?1) > 0 ORDER BY started DESC, id DESC";
        let mut statement = self.connection.prepare(sql).map_err(&wrong)?;
        let of = |row: &rusqlite::Row<'_>| {
            Ok(Entry {
                case: row.get(0)?,
                subject: row.get(1)?,
                version: row.get(2)?,
                started: row.get(3)?,
                verdict: row.get(4)?,
                cause: row.get(5)?,
                expected: row.get(6)?,
                seconds: row.get(7)?,
                message: row.get(8)?,
                bundle: row.get(9)?,
            })
        };
        let rows = statement.query_map([part], of).map_err(&wrong)?;
        let all: Vec<Entry> = rows.collect::<Result<_, _>>().map_err(wrong)?;
        // A whole id can be a part of another one's.
        let whole = |e: &Entry| e.case == part || format!("{} @ {}", e.case, e.subject) == part;
        if all.iter().any(whole) { Ok(all.into_iter().filter(whole).collect()) } else { Ok(all) }
    }
}

/// Makes the tables of a new file; the format of what was there.
fn prepare(connection: &mut Connection) -> rusqlite::Result<i32> {
    // Of two labs that find a new file one makes the tables.
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let found: i32 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if found == 0 {
        transaction.execute_batch(
            "CREATE TABLE results (
                id INTEGER PRIMARY KEY,
                run TEXT NOT NULL, started TEXT NOT NULL, lab TEXT NOT NULL,
                case_id TEXT NOT NULL, nonce TEXT NOT NULL, subject TEXT NOT NULL, version TEXT, arch TEXT NOT NULL,
                verdict TEXT NOT NULL, cause TEXT, expected INTEGER NOT NULL,
                seconds REAL NOT NULL, message TEXT NOT NULL, bundle TEXT NOT NULL,
                UNIQUE (run, case_id, subject));
             CREATE INDEX results_of_case ON results (case_id, subject, started);
             CREATE TABLE checks (
                result INTEGER NOT NULL REFERENCES results (id) ON DELETE CASCADE,
                step TEXT, name TEXT, passed INTEGER NOT NULL, failed INTEGER NOT NULL);
             CREATE INDEX checks_of_result ON checks (result);",
        )?;
        transaction.pragma_update(None, "user_version", FORMAT)?;
    }
    // Beside the others, and no format of its own: who does not know it does without.
    transaction.execute_batch(
        "CREATE TABLE IF NOT EXISTS milestones (
            result INTEGER NOT NULL REFERENCES results (id) ON DELETE CASCADE,
            phase TEXT NOT NULL, seconds REAL NOT NULL);
         CREATE INDEX IF NOT EXISTS milestones_of_result ON milestones (result);",
    )?;
    transaction.commit()?;
    Ok(found.max(FORMAT))
}

fn write(transaction: &Transaction<'_>, of: &RunOf, sample: &Sample) -> rusqlite::Result<()> {
    let Some(verdict) = &sample.verdict else { return Ok(()) };
    let version = sample.facts.get("build.image-version").map(ToString::to_string);
    let word = match verdict.verdict {
        Verdict::Pass => "pass",
        Verdict::Fail => "fail",
        Verdict::Error => "error",
        Verdict::Skip => "skip",
        Verdict::NotReached => "not-reached",
    };
    transaction.execute(
        "DELETE FROM results WHERE run = ?1 AND case_id = ?2 AND subject = ?3",
        params![of.run, sample.id, sample.subject],
    )?;
    transaction.execute(
        "INSERT INTO results (run, started, lab, case_id, subject, version, arch, verdict, cause, expected, seconds, message, bundle, nonce) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
        params![
            of.run,
            of.started,
            of.lab,
            sample.id,
            sample.subject,
            version,
            sample.arch,
            word,
            verdict.cause.map(|c| c.code()),
            verdict.as_expected().is_some(),
            verdict.seconds,
            verdict.message,
            sample.bundle,
            sample.nonce,
        ],
    )?;
    let result = transaction.last_insert_rowid();
    let mut insert = transaction
        .prepare("INSERT INTO checks (result, step, name, passed, failed) VALUES (?1, ?2, ?3, ?4, ?5)")?;
    for (key, judged) in judged(sample) {
        insert.execute(params![result, key.step, key.check, judged.passed, judged.failed])?;
    }
    let mut insert =
        transaction.prepare("INSERT INTO milestones (result, phase, seconds) VALUES (?1, ?2, ?3)")?;
    for (phase, seconds) in &sample.phases {
        insert.execute(params![result, phase, seconds])?;
    }
    // What is older than any that is looked at goes.
    let oldest: Option<i64> = transaction
        .query_row(
            "SELECT id FROM results WHERE case_id = ?1 AND subject = ?2 ORDER BY id DESC LIMIT 1 OFFSET ?3",
            params![sample.id, sample.subject, KEPT],
            |row| row.get(0),
        )
        .optional()?;
    if let Some(oldest) = oldest {
        transaction.execute(
            "DELETE FROM results WHERE case_id = ?1 AND subject = ?2 AND id <= ?3",
            params![sample.id, sample.subject, oldest],
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
