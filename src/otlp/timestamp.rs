//! A client's timestamp → nanoseconds since the Unix epoch.
//!
//! RFC 3339, and what Dart's `toIso8601String` writes besides: no zone (UTC here), years of six
//! digits with a sign. A space may stand for the T. The date crates were weighed: each refuses a
//! part of this (no zone, twenty fraction digits, a leap second) or loses nanoseconds, so that all
//! its rules would have to be checked before it is called. A property test holds this parser
//! against one of them where they agree on the grammar.

const SECOND: i64 = 1_000_000_000;

/// Reads a timestamp; `None`: it is none.
///
/// Digits of the fraction beyond nanoseconds are cut off. A leap second, which is only ever
/// 23:59:60 UTC, is the second after it.
pub fn parse(text: &[u8]) -> Option<i128> {
    let mut rest = Scanner(text);
    let days = date(&mut rest)?;
    rest.one(|b| matches!(b, b'T' | b't' | b' '))?;
    let hour = rest.number::<2>(23)?;
    rest.one(|b| b == b':')?;
    let minute = rest.number::<2>(59)?;
    rest.one(|b| b == b':')?;
    let second = rest.number::<2>(60)?;
    let fraction = fraction(&mut rest)?;
    let offset = offset(&mut rest)?;
    if !rest.0.is_empty() {
        return None;
    }
    let minutes = i64::from(days) * 1440 + i64::from(hour * 60 + minute - offset);
    if second == 60 && minutes.rem_euclid(1440) != 1439 {
        return None;
    }
    let seconds = minutes * 60 + i64::from(second);
    // Most times are within 64 bits, and WebAssembly has no arithmetic beyond.
    Some(match seconds.checked_mul(SECOND).and_then(|nanos| nanos.checked_add(i64::from(fraction))) {
        Some(nanos) => i128::from(nanos),
        None => i128::from(seconds) * i128::from(SECOND) + i128::from(fraction),
    })
}

/// Days since 1970-01-01.
fn date(rest: &mut Scanner<'_>) -> Option<i32> {
    let year = match rest.one(|b| matches!(b, b'+' | b'-')) {
        Some(b'-') => -rest.number::<6>(999_999)?,
        Some(_) => rest.number::<6>(999_999)?,
        None => rest.number::<4>(9999)?,
    };
    rest.one(|b| b == b'-')?;
    let month = rest.number::<2>(12)?;
    rest.one(|b| b == b'-')?;
    let day = rest.number::<2>(31)?;
    (month >= 1 && day >= 1 && day <= days_in(year, month)).then(|| days(year, month, day))
}

/// Nanoseconds.
fn fraction(rest: &mut Scanner<'_>) -> Option<i32> {
    if rest.one(|b| b == b'.').is_none() {
        return Some(0);
    }
    let mut nanos = 0;
    let mut place = SECOND as i32;
    let mut digits = 0;
    while let Some(digit) = rest.one(|b| b.is_ascii_digit()) {
        place /= 10;
        nanos += i32::from(digit - b'0') * place;
        digits += 1;
    }
    (digits > 0).then_some(nanos)
}

/// Minutes east of UTC. No zone is UTC.
fn offset(rest: &mut Scanner<'_>) -> Option<i32> {
    let sign = match rest.one(|b| matches!(b, b'Z' | b'z' | b'+' | b'-')) {
        None | Some(b'Z' | b'z') => return Some(0),
        Some(b'-') => -1,
        Some(_) => 1,
    };
    let hours = rest.number::<2>(23)?;
    rest.one(|b| b == b':')?;
    let minutes = rest.number::<2>(59)?;
    Some(sign * (hours * 60 + minutes))
}

struct Scanner<'a>(&'a [u8]);

impl Scanner<'_> {
    /// The next byte, if it is one that is `wanted`.
    #[inline]
    fn one(&mut self, wanted: impl Fn(u8) -> bool) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        if !wanted(first) {
            return None;
        }
        self.0 = rest;
        Some(first)
    }

    /// Exactly `N` digits, and not more than `most`.
    #[inline]
    fn number<const N: usize>(&mut self, most: i32) -> Option<i32> {
        let (digits, rest) = self.0.split_first_chunk::<N>()?;
        let mut number = 0;
        for digit in digits {
            if !digit.is_ascii_digit() {
                return None;
            }
            number = number * 10 + i32::from(digit - b'0');
        }
        self.0 = rest;
        (number <= most).then_some(number)
    }
}

fn days_in(year: i32, month: i32) -> i32 {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01 in the proleptic Gregorian calendar. Years begin in March here, so that
/// the leap day comes last and months have a pattern: 153 days in five.
fn days(year: i32, month: i32, day: i32) -> i32 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let before = year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    before + (153 * month + 2) / 5 + day - 1 - 719_468
}

/// RFC 3339 in UTC with milliseconds, as in `server_received_at`.
pub fn write(since_epoch: std::time::Duration) -> String {
    let seconds = since_epoch.as_secs();
    let (days, of_day) = ((seconds / 86_400) as i64, seconds % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    let mut text = String::with_capacity(24);
    let date = [("", year, 4), ("-", month, 2), ("-", day, 2)].map(|(mark, number, width)| (mark, number.max(0) as u64, width));
    let time = [("T", hour, 2), (":", minute, 2), (":", second, 2), (".", u64::from(since_epoch.subsec_millis()), 3)];
    for (mark, number, width) in date.into_iter().chain(time) {
        text.push_str(mark);
        let mut buffer = itoa::Buffer::new();
        let digits = buffer.format(number);
        text.extend(std::iter::repeat_n('0', usize::saturating_sub(width, digits.len())));
        text.push_str(digits);
    }
    text.push('Z');
    text
}

/// The date so many days after 1970-01-01: the reverse of [`days`].
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (year, month) = if month < 10 { (0, month + 3) } else { (1, month - 9) };
    (year + year_of_era + era * 400, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn seconds(text: &str) -> Option<i128> {
        parse(text.as_bytes()).map(|nanos| nanos / i128::from(SECOND))
    }

    #[test]
    fn what_clients_write() {
        assert_eq!(parse(b"2026-02-06T12:00:00.000Z"), Some(1_770_379_200 * i128::from(SECOND)));
        assert_eq!(parse(b"2026-02-06T12:00:00.000123Z"), Some(1_770_379_200 * i128::from(SECOND) + 123_000));
        assert_eq!(seconds("2026-02-06T12:00:00.000+02:00"), Some(1_770_379_200 - 7_200));
        assert_eq!(seconds("2026-02-06 12:00:00"), Some(1_770_379_200));
        assert_eq!(seconds("2026-02-06t12:00:00z"), Some(1_770_379_200));
        assert_eq!(seconds("+012026-02-06T12:00:00.000Z").map(|s| s > 300_000_000_000), Some(true));
    }

    #[test]
    fn the_edges_of_the_calendar() {
        assert_eq!(parse(b"1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(parse(b"1677-09-21T00:12:43.145224192Z"), Some(i128::from(i64::MIN)));
        assert_eq!(parse(b"2262-04-11T23:47:16.854775807Z"), Some(i128::from(i64::MAX)));
        assert_eq!(seconds("0000-01-01T00:00:00Z"), Some(-62_167_219_200));
        assert_eq!(seconds("9999-12-31T23:59:59Z"), Some(253_402_300_799));
        assert_eq!(seconds("2000-02-29T00:00:00-00:00"), Some(951_782_400));
        assert_eq!(parse(b"1970-01-01T00:00:00.12345678901234567890Z"), Some(123_456_789));
    }

    #[test]
    fn a_leap_second_is_the_next_second_and_stands_only_at_the_end_of_a_utc_day() {
        assert_eq!(seconds("1998-12-31T23:59:60Z"), Some(915_148_800));
        assert_eq!(parse(b"1998-12-31T15:59:60.123-08:00"), Some(915_148_800 * i128::from(SECOND) + 123_000_000));
        assert_eq!(parse(b"1998-12-31T23:58:60Z"), None);
        assert_eq!(parse(b"1998-12-31T22:59:60Z"), None);
        assert_eq!(parse(b"1998-12-31T23:59:61Z"), None);
    }

    #[test]
    fn what_is_no_timestamp() {
        for text in [
            "",
            "06/02/2026 12:00",
            "2026-02-06",
            "2026-02-06T12:00Z",
            "2026-02-30T00:00:00Z",
            "2025-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-00-01T00:00:00Z",
            "2026-01-00T00:00:00Z",
            "2026-02-06T24:00:00Z",
            "2026-02-06T12:60:00Z",
            "2026-02-06T12:00:00.Z",
            "2026-02-06T12:00:00+24:00",
            "2026-02-06T12:00:00+02",
            "2026-02-06T12:00:00Zjunk",
            "2026-2-6T12:00:00Z",
            "2026-02-06X12:00:00Z",
            "1963-06-19T08:30:06.28123+01:00Z",
            "1963-06-1৪T00:00:00Z",
            "now",
        ] {
            assert_eq!(parse(text.as_bytes()), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn every_millisecond_reads_as_it_was_written(ms in 0u64..253_402_300_800_000) {
            let moment = std::time::Duration::from_millis(ms);
            prop_assert_eq!(parse(write(moment).as_bytes()), Some(moment.as_nanos() as i128));
        }

        #[test]
        fn no_bytes_trap(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = parse(&bytes);
        }
    }
}
