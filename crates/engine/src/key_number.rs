//! Hashes of keys as numbers that sort as their bytes do: a query groups, sorts and joins numbers of 16 bytes much faster
//! than texts of any length.
//!
//! An invalid record has no key that counts, and gets its position in place of one: a number whose first half is zero. That
//! a hash begins like this is as unlikely as that two keys share a hash.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, Decimal128Array};
use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType};
use convoke_core::KeyHash;
use datafusion::common::exec_err;
use datafusion::error::Result;
use datafusion::logical_expr::sort_properties::ExprProperties;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};

/// Arrow's one number of 16 bytes. Nobody reckons with it, so its precision is never asked for.
pub(crate) const KEY_TYPE: DataType = DataType::Decimal128(DECIMAL128_MAX_PRECISION, 0);

/// Numbers sort by their sign first, bytes do not.
const SIGN: u128 = 1 << 127;

/// The number that stands for a key.
pub(crate) fn number_of(key: KeyHash) -> i128 {
    (u128::from_be_bytes(key.0) ^ SIGN).cast_signed()
}

/// The number that stands for the key of the invalid record at a position.
pub(crate) fn number_of_invalid(position: u64) -> i128 {
    (u128::from(position) ^ SIGN).cast_signed()
}

/// The key that a number stands for.
pub(crate) fn key_of(number: i128) -> KeyHash {
    KeyHash((number.cast_unsigned() ^ SIGN).to_be_bytes())
}

/// Whether a key is what an invalid record has in place of one.
pub(crate) fn is_invalid(key: KeyHash) -> bool {
    key.0.starts_with(&[0; size_of::<u64>()])
}

/// A column of numbers for keys.
pub(crate) fn column_of(numbers: Vec<i128>) -> ArrayRef {
    Arc::new(Decimal128Array::from(numbers).with_data_type(KEY_TYPE))
}

/// `key_number`: the numbers of keys as ledger segments hold them.
pub(crate) fn key_number() -> ScalarUDF {
    ScalarUDF::from(KeyNumber { signature: Signature::exact(vec![DataType::Binary], Volatility::Immutable) })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct KeyNumber {
    signature: Signature,
}

impl ScalarUDFImpl for KeyNumber {
    fn name(&self) -> &'static str {
        "key_number"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(KEY_TYPE)
    }

    fn invoke_with_args(&self, mut args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let keys = args.args.swap_remove(0).into_array(args.number_rows)?;
        let keys: &BinaryArray = keys.as_binary();
        let mut numbers = Vec::with_capacity(keys.len());
        for key in keys {
            match key.unwrap_or_default().try_into() {
                Ok(key) => numbers.push(number_of(KeyHash(key))),
                Err(_) => return exec_err!("a key of the ledger has not the length of a key"),
            }
        }
        Ok(ColumnarValue::Array(column_of(numbers)))
    }

    /// What is sorted by its keys is sorted by their numbers.
    fn preserves_lex_ordering(&self, _inputs: &[ExprProperties]) -> Result<bool> {
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_sort_as_keys_do_and_give_them_back() {
        let keys = [[0; 16], [1; 16], [0x7f; 16], [0x80; 16], [0xff; 16]].map(KeyHash);
        let numbers = keys.map(number_of);
        assert!(numbers.is_sorted());
        assert_eq!(numbers.map(key_of), keys);
        assert!(!keys[1..].iter().any(|key| is_invalid(*key)));
        for position in [0, 1, u64::MAX] {
            assert!(is_invalid(key_of(number_of_invalid(position))));
        }
        assert!(number_of_invalid(u64::MAX) < number_of(keys[1]));
    }
}
