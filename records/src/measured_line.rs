//! A line of JSON as Tidemark writes outcomes, read in one go: its fields come in the order in which [`Outcome`](crate::Outcome)
//! declares them. A parser that expects any order, any spacing and any escape takes three times as long for the same.

use std::borrow::Cow;
use std::str::FromStr;

use memchr::{memchr, memchr2, memchr3};

use crate::{Confidence, Measured, MicroUsd, UtcMicros};

impl<'a> Measured<'a> {
    /// What windows need of an outcome's line, if that is written as `serde_json` writes an outcome; `None` where anything is
    /// another way, and another reader has to look.
    pub fn of_line(line: &'a str) -> Option<Self> {
        let mut scan = Scan { line, at: 0 };
        scan.past(b"{")?;
        let measured = Self {
            upload_id: scan.field(b"\"upload_id\":", Scan::text)?,
            version: scan.field(b",\"version\":", Scan::number)?.try_into().ok()?,
            lane: {
                scan.field(b",\"customer_id\":", Scan::skip_text)?;
                scan.field(b",\"source\":", Scan::skip_text)?;
                scan.field(b",\"lane\":", Scan::name)?
            },
            tier: scan.field(b",\"tier\":", |scan| scan.or_null(Scan::name))?,
            region: scan.field(b",\"region\":", |scan| scan.or_null(Scan::text))?,
            status: scan.field(b",\"status\":", Scan::name)?,
            branch: scan.field(b",\"branch\":", |scan| scan.or_null(Scan::name))?,
            fallback_reason: scan.field(b",\"fallback_reason\":", |scan| scan.or_null(Scan::name))?,
            model: scan.field(b",\"model\":", |scan| scan.or_null(Scan::text))?,
            experiment: scan.field(b",\"experiment\":", |scan| scan.or_null(Scan::text))?,
            arm: scan.field(b",\"arm\":", |scan| scan.or_null(Scan::text))?,
            confidence: scan.field(b",\"confidence\":", |scan| scan.or_null(Scan::confidence))?,
            below_threshold: scan.field(b",\"below_threshold\":", Scan::flag)?,
            error_type: {
                scan.field(b",\"metadata\":", Scan::skip_object)?;
                scan.field(b",\"field_confidence\":", Scan::skip_object)?;
                scan.field(b",\"attempts\":", Scan::number)?;
                scan.field(b",\"error\":", Scan::skip_text)?;
                scan.field(b",\"error_type\":", |scan| scan.or_null(Scan::name))?
            },
            queued_ms: scan.field(b",\"queued_ms\":", Scan::number)?,
            inference_ms: scan.field(b",\"inference_ms\":", Scan::number)?,
            total_ms: scan.field(b",\"total_ms\":", Scan::number)?,
            cost_micro_usd: MicroUsd(scan.field(b",\"cost_micro_usd\":", Scan::number)?),
            arrived_at: scan.field(b",\"arrived_at\":", Scan::moment)?,
            completed_at: scan.field(b",\"completed_at\":", Scan::moment)?,
        };
        scan.field(b",\"training_consent\":", Scan::flag)?;
        scan.past(b"}")?;
        scan.rest().trim_ascii().is_empty().then_some(measured)
    }
}

/// A line, and how much of it was read. Each method reads a value, or is `None` where there is another one.
struct Scan<'a> {
    line: &'a str,
    at: usize,
}

impl<'a> Scan<'a> {
    fn rest(&self) -> &'a [u8] {
        &self.line.as_bytes()[self.at..]
    }

    /// Of a length that is known beforehand, so that no call is made to compare.
    fn past<const N: usize>(&mut self, expected: &[u8; N]) -> Option<()> {
        (self.rest().first_chunk()? == expected).then(|| self.at += N)
    }

    fn field<T, const N: usize>(&mut self, key: &[u8; N], value: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        self.past(key)?;
        value(self)
    }

    fn or_null<T>(&mut self, value: impl FnOnce(&mut Self) -> Option<T>) -> Option<Option<T>> {
        if self.past(b"null").is_some() { Some(None) } else { value(self).map(Some) }
    }

    /// A text without escapes.
    fn plain(&mut self) -> Option<&'a str> {
        self.past(b"\"")?;
        let length = memchr2(b'"', b'\\', self.rest())?;
        let text = &self.line[self.at..self.at + length];
        self.at += length;
        self.past(b"\"")?;
        Some(text)
    }

    fn text(&mut self) -> Option<Cow<'a, str>> {
        self.plain().map(Cow::Borrowed)
    }

    fn name<T: FromStr>(&mut self) -> Option<T> {
        self.plain()?.parse().ok()
    }

    fn moment(&mut self) -> Option<UtcMicros> {
        UtcMicros::as_written(self.plain()?.as_bytes())
    }

    fn flag(&mut self) -> Option<bool> {
        if self.past(b"true").is_some() { Some(true) } else { self.past(b"false").map(|()| false) }
    }

    /// Digits, as many as cannot overflow.
    fn number(&mut self) -> Option<u64> {
        let digits = self.rest().iter().take(20).take_while(|byte| byte.is_ascii_digit()).count();
        let text = &self.rest()[..digits];
        let is_json = (1..20).contains(&digits) && (digits == 1 || text[0] != b'0');
        self.at += digits;
        is_json.then(|| text.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0')))
    }

    fn confidence(&mut self) -> Option<Confidence> {
        let length = memchr(b',', self.rest())?;
        let text = &self.line[self.at..self.at + length];
        self.at += length;
        serde_json::from_str(text).ok()
    }

    fn skip_text(&mut self) -> Option<()> {
        if self.past(b"null").is_some() {
            return Some(());
        }
        self.past(b"\"")?;
        loop {
            self.at += memchr2(b'"', b'\\', self.rest())?;
            let is_end = self.rest()[0] == b'"';
            self.at += if is_end { 1 } else { 2 };
            if is_end {
                return Some(());
            }
            if self.at > self.line.len() {
                return None;
            }
        }
    }

    /// An object, of which nothing but its end is looked for.
    fn skip_object(&mut self) -> Option<()> {
        let mut depth = 0_u32;
        self.rest().starts_with(b"{").then_some(())?;
        loop {
            self.at += memchr3(b'"', b'{', b'}', self.rest())?;
            match self.rest()[0] {
                b'"' => {
                    self.skip_text()?;
                    continue;
                }
                b'{' => depth += 1,
                _ => depth -= 1,
            }
            self.at += 1;
            if depth == 0 {
                return Some(());
            }
        }
    }
}
