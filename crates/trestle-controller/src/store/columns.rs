//! Reads a row from left to right, each column as what it must be; and how values without a text
//! form of their own are kept.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use jiff::Timestamp;
use sqlx::Row;
use sqlx::any::AnyRow;

use crate::store::error::{During, StoreError};

/// An address as it is kept, so that it sorts: `4` and 8 hex digits, or `6` and 32.
pub(crate) fn address_text(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => format!("4{:08x}", address.to_bits()),
        IpAddr::V6(address) => format!("6{:032x}", address.to_bits()),
    }
}

/// The address that was kept like this.
pub(crate) fn address_of(text: &str) -> Option<IpAddr> {
    let (family, digits) = text.split_at_checked(1)?;
    match family {
        "4" => u32::from_str_radix(digits, 16).ok().map(|bits| Ipv4Addr::from_bits(bits).into()),
        "6" => u128::from_str_radix(digits, 16).ok().map(|bits| Ipv6Addr::from_bits(bits).into()),
        _ => None,
    }
}

/// The rows of an INSERT statement: `($1, $2), ($3, $4)`.
pub(crate) fn rows(count: usize, columns: usize) -> String {
    let row = |row: usize| {
        let places: Vec<String> =
            (1..=columns).map(|column| format!("${}", row * columns + column)).collect();
        format!("({})", places.join(", "))
    };
    (0..count).map(row).collect::<Vec<_>>().join(", ")
}

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

    /// Begins with the last column.
    pub(crate) fn of_last(row: &'r AnyRow) -> Self {
        Self { row, next: row.len().saturating_sub(1) }
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

    /// A number of a type that is made of one.
    pub(crate) fn small<T: TryFrom<u32>>(&mut self) -> Result<T, StoreError> {
        let number = self.number()?;
        u32::try_from(number).ok().and_then(|small| small.try_into().ok()).ok_or_else(|| self.corrupt(number))
    }

    /// A number of a type that is made of one, or nothing.
    pub(crate) fn optional_small<T: TryFrom<i64>>(&mut self) -> Result<Option<T>, StoreError> {
        let number = self.optional_number()?;
        number.map(|number| number.try_into().map_err(|_| self.corrupt(number))).transpose()
    }

    /// A JSON text.
    pub(crate) fn json<T: serde::de::DeserializeOwned>(&mut self) -> Result<T, StoreError> {
        let text = self.text()?;
        serde_json::from_str(text).map_err(|_| self.corrupt(text))
    }

    /// A JSON text, or nothing.
    pub(crate) fn optional_json<T: serde::de::DeserializeOwned>(&mut self) -> Result<Option<T>, StoreError> {
        let text = self.optional_text()?;
        text.map(|text| serde_json::from_str(text).map_err(|_| self.corrupt(text))).transpose()
    }

    /// An address.
    pub(crate) fn address(&mut self) -> Result<IpAddr, StoreError> {
        let text = self.text()?;
        address_of(text).ok_or_else(|| self.corrupt(text))
    }

    /// An address or nothing.
    pub(crate) fn optional_address(&mut self) -> Result<Option<IpAddr>, StoreError> {
        let text = self.optional_text()?;
        text.map(|text| address_of(text).ok_or_else(|| self.corrupt(text))).transpose()
    }

    /// Addresses joined by commas, or nothing for none; in order.
    pub(crate) fn addresses(&mut self) -> Result<Vec<IpAddr>, StoreError> {
        let joined = self.optional_text()?.unwrap_or_default();
        let texts = joined.split(',').filter(|text| !text.is_empty());
        let mut addresses: Vec<IpAddr> =
            texts.map(|text| address_of(text).ok_or_else(|| self.corrupt(text))).collect::<Result<_, _>>()?;
        addresses.sort();
        Ok(addresses)
    }

    /// Texts of a type with a text form, joined by this character, or nothing for none.
    pub(crate) fn parse_list<T: FromStr, C: FromIterator<T>>(
        &mut self,
        separator: char,
    ) -> Result<C, StoreError> {
        let joined = self.optional_text()?.unwrap_or_default();
        let texts = joined.split(separator).filter(|text| !text.is_empty());
        texts.map(|text| text.parse().map_err(|_| self.corrupt(text))).collect()
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

    fn advance(&mut self) -> usize {
        self.next += 1;
        self.next - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_kept_in_their_order() {
        let sorted =
            ["9.255.255.255", "10.0.0.1", "192.0.2.9", "::", "2001:db8::9", "2001:db8::10", "fd00::"];
        let kept: Vec<String> = sorted.map(|text| address_text(text.parse().unwrap())).into();
        assert!(kept.is_sorted(), "{kept:?}");
        let read: Vec<String> = kept.iter().map(|text| address_of(text).unwrap().to_string()).collect();
        assert_eq!(read, sorted);
        assert_eq!(["", "5", "4x", "4100000000"].map(address_of), [None; 4]);
    }
}
