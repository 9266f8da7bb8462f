//! Reads a row from left to right, each column as what it must be.

use std::net::Ipv4Addr;
use std::str::FromStr;

use jiff::Timestamp;
use sqlx::Row;
use sqlx::any::AnyRow;

use crate::store::error::{During, StoreError};

/// A row and the next column to read.
pub(crate) struct Columns<'r> {
    row: &'r AnyRow,
    next: usize,
}

impl<'r> Columns<'r> {
    /// Begins with the first column.
    pub(crate) fn of(row: &'r AnyRow) -> Self {
        Self { row, next: 0 }
    }

    /// A text or nothing.
    pub(crate) fn optional_text(&mut self) -> Result<Option<&'r str>, StoreError> {
        let column = self.advance();
        self.row.try_get(column).during("read a text column")
    }

    /// A number or nothing.
    pub(crate) fn optional_number(&mut self) -> Result<Option<i64>, StoreError> {
        let column = self.advance();
        self.row.try_get(column).during("read a number column")
    }

    /// A text.
    pub(crate) fn text(&mut self) -> Result<&'r str, StoreError> {
        let column = self.advance();
        self.row.try_get(column).during("read a text column")
    }

    /// A number.
    pub(crate) fn number(&mut self) -> Result<i64, StoreError> {
        let column = self.advance();
        self.row.try_get(column).during("read a number column")
    }

    /// A number that is never negative.
    pub(crate) fn count(&mut self) -> Result<u64, StoreError> {
        let number = self.number()?;
        u64::try_from(number).map_err(|_| self.corrupt(number))
    }

    /// A yes or no, stored as 1 or 0.
    pub(crate) fn flag(&mut self) -> Result<bool, StoreError> {
        Ok(self.number()? != 0)
    }

    /// A text of a type with a text form.
    pub(crate) fn parse<T: FromStr>(&mut self) -> Result<T, StoreError> {
        let text = self.text()?;
        text.parse().map_err(|_| self.corrupt(text))
    }

    /// A text of a type with a text form, or nothing.
    pub(crate) fn optional_parse<T: FromStr>(&mut self) -> Result<Option<T>, StoreError> {
        let text = self.optional_text()?;
        text.map(|text| text.parse().map_err(|_| self.corrupt(text))).transpose()
    }

    /// A JSON text, or nothing.
    pub(crate) fn optional_json<T: serde::de::DeserializeOwned>(&mut self) -> Result<Option<T>, StoreError> {
        let text = self.optional_text()?;
        text.map(|text| serde_json::from_str(text).map_err(|_| self.corrupt(text))).transpose()
    }

    /// An IPv4 address, stored as a number.
    pub(crate) fn address(&mut self) -> Result<Ipv4Addr, StoreError> {
        let number = self.number()?;
        self.to_address(number)
    }

    /// An IPv4 address or nothing.
    pub(crate) fn optional_address(&mut self) -> Result<Option<Ipv4Addr>, StoreError> {
        let number = self.optional_number()?;
        number.map(|number| self.to_address(number)).transpose()
    }

    /// A time, stored as microseconds since 1970.
    pub(crate) fn time(&mut self) -> Result<Timestamp, StoreError> {
        let number = self.number()?;
        Timestamp::from_microsecond(number).map_err(|_| self.corrupt(number))
    }

    /// A time or nothing.
    pub(crate) fn optional_time(&mut self) -> Result<Option<Timestamp>, StoreError> {
        let number = self.optional_number()?;
        number.map(|number| Timestamp::from_microsecond(number).map_err(|_| self.corrupt(number))).transpose()
    }

    /// The error for a column just read that holds what nothing of ours writes.
    pub(crate) fn corrupt(&self, value: impl ToString) -> StoreError {
        StoreError::Corrupt { column: self.next - 1, value: value.to_string() }
    }

    fn to_address(&self, number: i64) -> Result<Ipv4Addr, StoreError> {
        u32::try_from(number).map(Ipv4Addr::from).map_err(|_| self.corrupt(number))
    }

    fn advance(&mut self) -> usize {
        self.next += 1;
        self.next - 1
    }
}
