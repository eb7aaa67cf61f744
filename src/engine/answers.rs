//! What a write was answered, kept with it, so that a retry hears the same and has no second effect.

use super::core::Core;
use super::inbox::{Job, Ran};
use super::program::{Outcome, ResultColumn, StatementResult, StepOutcome};
use crate::change::{Decoder, Encoder};
use crate::error::Result;

/// A larger answer is kept without its rows.
const ROWS_KEPT: usize = 64 << 10;

const SKIPPED: u8 = 0;
const DONE: u8 = 1;
/// A failed step is repeated as skipped: its transaction went on and committed.
const FAILED: u8 = 2;

/// The answers of the steps so far, encoded.
#[derive(Debug, Clone, Default)]
pub(crate) struct Answers(Vec<u8>);

impl Answers {
    /// Adds a step's.
    pub fn push(&mut self, outcome: &StepOutcome) {
        let mut encoder = Encoder(std::mem::take(&mut self.0));
        match outcome {
            StepOutcome::Skipped => encoder.u8(SKIPPED),
            StepOutcome::Failed(_) => encoder.u8(FAILED),
            StepOutcome::Done(result) => encode(&mut encoder, result),
        }
        self.0 = encoder.0;
    }

    /// All of them, with the one that commits.
    pub fn ending_with(&self, last: &StatementResult) -> Vec<u8> {
        let mut encoder = Encoder(self.0.clone());
        encode(&mut encoder, last);
        encoder.0
    }
}

fn encode(encoder: &mut Encoder, result: &StatementResult) {
    encoder.u8(DONE);
    encoder.varint(result.affected);
    encoder.u8(result.last_insert_rowid.is_some().into());
    encoder.zigzag(result.last_insert_rowid.unwrap_or(0));
    encoder.varint(result.columns.len() as u64);
    for column in &result.columns {
        encoder.bytes(column.name.as_bytes());
        encoder.bytes(column.decltype.as_deref().unwrap_or_default().as_bytes());
    }
    let mut rows = Encoder::default();
    for row in &result.rows {
        row.iter().for_each(|value| rows.value(value.as_ref()));
    }
    let keep = rows.0.len() <= ROWS_KEPT;
    encoder.varint(if keep { result.rows.len() as u64 } else { 0 });
    if keep {
        encoder.0.extend_from_slice(&rows.0);
    }
}

/// A retry of a write that brought its id hears what the first try was answered.
pub(crate) fn answered_before(core: &Core, job: &Job) -> Option<Result<Ran>> {
    let id = job.options.request.as_ref()?;
    let (version, response) = match core.store.answered(id) {
        Ok(found) => found?,
        Err(error) => return Some(Err(error)),
    };
    let ran = decode(&response, job.program.steps.len()).and_then(|steps| {
        let receipt = core.store.position_at(version)?;
        let mut stream = job.stream.clone();
        stream.receipt = receipt.or(stream.receipt);
        Ok(Ran { outcome: Outcome { steps, receipt }, stream, transaction: None })
    });
    Some(ran)
}

/// Reads kept answers back; steps after the one that committed count as skipped.
pub(crate) fn decode(bytes: &[u8], steps: usize) -> Result<Vec<StepOutcome>> {
    let mut decoder = Decoder(bytes);
    let mut outcomes = Vec::new();
    while !decoder.is_empty() {
        outcomes.push(match decoder.u8()? {
            DONE => StepOutcome::Done(result(&mut decoder)?),
            _ => StepOutcome::Skipped,
        });
    }
    outcomes.resize_with(steps.max(outcomes.len()), || StepOutcome::Skipped);
    Ok(outcomes)
}

fn result(decoder: &mut Decoder<'_>) -> Result<StatementResult> {
    let affected = decoder.varint()?;
    let inserted = decoder.u8()? != 0;
    let rowid = decoder.zigzag()?;
    let mut columns = Vec::new();
    for _ in 0..decoder.varint()? {
        let name = decoder.text()?.to_owned();
        let decltype = decoder.text()?;
        let decltype = (!decltype.is_empty()).then(|| decltype.to_owned());
        columns.push(ResultColumn { name, decltype });
    }
    let mut rows = Vec::new();
    for _ in 0..decoder.varint()? {
        let row = (0..columns.len()).map(|_| Ok(decoder.value()?.to_owned()));
        rows.push(row.collect::<Result<Vec<_>>>()?);
    }
    Ok(StatementResult {
        columns,
        rows,
        affected,
        last_insert_rowid: inserted.then_some(rowid),
        duration: std::time::Duration::ZERO,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::Value;

    #[test]
    fn answers_come_back_as_they_were_given() {
        let result = StatementResult {
            columns: vec![ResultColumn { name: "a".into(), decltype: Some("INT".into()) }],
            rows: vec![vec![Value::Integer(-1)], vec![Value::Text("x".into())]],
            affected: 2,
            last_insert_rowid: Some(-9),
            ..StatementResult::default()
        };
        let mut answers = Answers::default();
        answers.push(&StepOutcome::Skipped);
        answers.push(&StepOutcome::Done(StatementResult::default()));
        let outcomes = decode(&answers.ending_with(&result), 4).unwrap();
        assert!(matches!(&outcomes[0], StepOutcome::Skipped));
        assert!(matches!(&outcomes[2], StepOutcome::Done(r) if *r == result));
        assert!(matches!(&outcomes[3], StepOutcome::Skipped));
    }
}
