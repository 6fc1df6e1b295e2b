//! Words in prose, and what stands behind them.

use super::vocabulary::Occurrence;
use super::*;

impl Text {
    /// Words, and the numbers, dates and names behind them. `told`: where numbers are that were told, in their order.
    pub(super) fn prose(
        &self,
        text: &[u8],
        told: &[(usize, usize)],
        has_mail: bool,
        tell: &mut dyn FnMut(Found),
    ) {
        const NUMBERS: u64 = bit(Class::Mrn)
            | bit(Class::Account)
            | bit(Class::HealthPlan)
            | bit(Class::Licence)
            | bit(Class::Passport)
            | bit(Class::Device)
            | bit(Class::PatientId);
        const DATES: u64 = bit(Class::BirthDate) | bit(Class::DeathDate) | bit(Class::Date);
        const PHONES: u64 = bit(Class::Phone) | bit(Class::Fax);
        const PLACES: u64 = bit(Class::Address) | bit(Class::Ip) | bit(Class::Vehicle);
        const HEALTH: u64 =
            bit(Class::Diagnosis) | bit(Class::Procedure) | bit(Class::Medication) | bit(Class::Allergy);
        const WANTED: u64 = NUMBERS
            | DATES
            | PHONES
            | PLACES
            | HEALTH
            | bit(Class::Name)
            | bit(Class::Password)
            | bit(Class::Url);
        let mut over = 0;
        // Where something is told, in no order.
        let mut told_here = Vec::new();
        let out: &mut dyn FnMut(Found) = &mut |found| {
            told_here.push((found.start, found.end));
            tell(found);
        };
        // There is something else of somebody.
        let is_personal = has_mail || !told.is_empty();
        let mut greeted = Vec::new();
        of_letters(text, is_personal, &mut |start, end| {
            greeted.push((start, end));
            out(self::found(Class::Name, Evidence::Context, 75, start, end));
        });
        for pin in self.pin.find_iter(text) {
            if (pin == 0 || !is_word(text[pin - 1]))
                && let Some((from, to)) = pin_in(&text[pin + 3..text.len().min(pin + WINDOW_BYTES)])
            {
                out(self::found(
                    Class::Password,
                    Evidence::Context,
                    75,
                    pin + 3 + from,
                    pin + 3 + to,
                ));
            }
        }
        for Occurrence { word, start, end } in self.words.find(text, 0, text.len()) {
            let mask = self.masks[word] & WANTED;
            let apart = text.get(end).is_none_or(|byte| !is_word(*byte));
            if mask == 0 || !apart || start < over {
                continue;
            }
            let window = &text[end..text.len().min(end + WINDOW_BYTES)];
            let class = |mask: u64| mask.trailing_zeros() as ClassId;
            if mask & DATES != 0
                && let Some((from, to)) = date_in(window)
                && !self.says_date(&window[..from], DATES)
                && is_said_of_date(&text[start..end], from)
            {
                over = end + to;
                out(self::found_id(
                    class(mask & DATES),
                    Evidence::Context,
                    BESIDE,
                    end + from,
                    over,
                ));
            } else if mask & bit(Class::Device) != 0
                && let Some((from, to)) = mac_in(window)
            {
                over = end + to;
                out(self::found(
                    Class::Device,
                    Evidence::Context,
                    BESIDE,
                    end + from,
                    over,
                ));
            } else if mask & bit(Class::Url) != 0
                && let Some((from, to)) = url_in(window)
            {
                over = end + to;
                out(self::found(Class::Url, Evidence::Context, 75, end + from, over));
            } else if mask & bit(Class::Password) != 0
                && let Some((from, to)) = secret_behind(window)
            {
                over = end + to;
                out(self::found(
                    Class::Password,
                    Evidence::Context,
                    75,
                    end + from,
                    over,
                ));
            } else if mask & NUMBERS != 0
                && let Some((from, to)) = number_in(window)
            {
                over = end + to;
                out(self::found_id(
                    class(mask & NUMBERS),
                    Evidence::Context,
                    BESIDE,
                    end + from,
                    over,
                ));
            } else if mask & bit(Class::Passport) != 0
                && let Some((from, to)) = groups_in(window)
            {
                over = end + to;
                out(self::found(
                    Class::Passport,
                    Evidence::Context,
                    BESIDE,
                    end + from,
                    over,
                ));
            } else if mask & bit(Class::Name) != 0
                && let Some((from, to)) = name_behind(self.cues[word], text, start, end, window, is_personal)
                    .filter(|(from, to)| {
                        !says_none(&window[*from..*to]) && !is_told(&greeted, end + from, end + to)
                    })
            {
                over = end + to;
                out(self::found(Class::Name, Evidence::Context, 75, end + from, over));
            } else if mask & HEALTH != 0 && text[start..end].eq_ignore_ascii_case(b"hiv positive") {
                over = end;
                out(self::found(Class::Diagnosis, Evidence::Context, 85, start, end));
            } else if mask & HEALTH != 0
                && let Some((from, to)) = said_of_health(&text[start..end], window, is_personal)
            {
                // What else the words say is told beside it.
                out(self::found_id(
                    class(mask & HEALTH),
                    Evidence::Context,
                    75,
                    end + from,
                    end + to,
                ));
            } else if mask & (PHONES | PLACES) != 0
                && let Some((class, from, to)) = said(mask, &text[start..end], window)
                && !is_told(told, end + from, end + to)
            {
                over = end + to;
                out(self::found(class, Evidence::Context, BESIDE, end + from, over));
            }
        }
        if is_personal || !told_here.is_empty() {
            told_here.extend_from_slice(told);
            told_here.sort_unstable();
            // One may lie within another.
            let mut reach = 0;
            for (_, end) in &mut told_here {
                reach = reach.max(*end);
                *end = reach;
            }
            by_given(text, &mut |start, end| {
                if !is_told(&told_here, start, end) {
                    tell(self::found(Class::Name, Evidence::Context, 70, start, end));
                }
            });
        }
    }

    /// Another word for dates stands there, nearer to what is behind: `Discharge of M. Okafor, DOB 02/14/1980`.
    fn says_date(&self, between: &[u8], dates: u64) -> bool {
        let mut words = self.words.find(between, 0, between.len());
        words.any(|found| found.start > 0 && self.masks[found.word] & dates != 0)
    }
}

/// `nato il` is said of who was born; NATO meets on dates, too.
fn is_said_of_date(word: &[u8], from: usize) -> bool {
    let born = word.eq_ignore_ascii_case(b"nato") || word.eq_ignore_ascii_case(b"nata");
    !born || word[0].is_ascii_lowercase() && from <= 6
}

/// `diagnosed with hypertension`, `prescribed metformin 500 mg`, `underwent appendectomy`.
fn said_of_health(word: &[u8], window: &[u8], is_personal: bool) -> Option<(usize, usize)> {
    /// Machines and laws have these behind the same words.
    const OTHERS: &[&[u8]] = &[
        b"by",
        b"for",
        b"in",
        b"to",
        b"as",
        b"at",
        b"on",
        b"and",
        b"or",
        b"if",
        b"no",
        b"not",
        b"burn",
        b"burns",
        b"manner",
        b"period",
        b"time",
        b"form",
        b"format",
        b"limit",
        b"limits",
        b"procedure",
        b"medication",
        b"medications",
        b"medicine",
        b"medicines",
        b"treatment",
        b"minimum",
        b"maximum",
        b"fee",
        b"rate",
        b"under",
        b"the",
        b"an",
        b"a",
    ];
    const DOSES: &[&[u8]] = &[
        b"mg",
        b"mcg",
        b"ml",
        b"iu",
        b"tablet",
        b"tablets",
        b"capsule",
        b"capsules",
        b"units",
        b"puffs",
    ];
    /// What is done to people, by the ends of its names.
    const DONE: &[&[u8]] = &[
        b"ectomy",
        b"plasty",
        b"scopy",
        b"otomy",
        b"ostomy",
        b"graphy",
        b"gram",
        b"surgery",
        b"biopsy",
        b"transplant",
        b"dialysis",
        b"amputation",
        b"bypass",
        b"section",
        b"ablation",
        b"repair",
        b"replacement",
        b"chemotherapy",
        b"radiotherapy",
        b"transfusion",
    ];
    // `500 mg`, `10mg`.
    let is_dose = |word: &[u8]| {
        let digits = word.iter().take_while(|byte| byte.is_ascii_digit()).count();
        DOSES.contains(&&word[digits..])
    };
    let (start, end) = phrase_in(window)?;
    let phrase = window[start..end].to_ascii_lowercase();
    let mut words = phrase.split(|byte| *byte == b' ');
    let first = words.next().unwrap_or_default();
    let is = match word.to_ascii_lowercase().as_slice() {
        b"underwent" => phrase
            .split(|byte| *byte == b' ')
            .any(|word| DONE.iter().any(|done| word.ends_with(done))),
        b"prescribed" | b"started on" | b"taking" | b"meds" => {
            phrase.iter().any(u8::is_ascii_digit) && words.any(is_dose)
        }
        // A label, which a colon stands behind: see `labels`.
        b"diagnosis" => false,
        // Machines do so, too.
        b"suffers from" | b"suffering from" | b"treated for" | b"therapy for" => {
            is_personal && first.len() >= 3 && !OTHERS.contains(&first)
        }
        _ => first.len() >= 3 && !OTHERS.contains(&first),
    };
    is.then_some((start, end))
}
