//! What is said of a run, and by which rules.

use serde::Serialize;

/// Why a behaviour did not go as it must.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) text: String,
    pub(crate) kind: Kind,
}

/// Whose a failure can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Something between the two: the control runs decide.
    Between,
    /// No control excuses it: evermux itself has not kept its word, or the two did not even come to a session.
    Ours,
    /// The library has no such thing.
    NotAvailable,
}

impl Failure {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), kind: Kind::Between }
    }

    pub(crate) fn ours(text: impl Into<String>) -> Self {
        Self { text: text.into(), kind: Kind::Ours }
    }

    /// The same, with no excuse.
    pub(crate) fn without_excuse(self) -> Self {
        Self { kind: Kind::Ours, ..self }
    }

    /// Which side fails at what: the first two words of the text.
    fn place(&self) -> (&str, &str) {
        let mut words = self.text.split([' ', ':']).filter(|word| !word.is_empty());
        (words.next().unwrap_or_default(), words.next().unwrap_or_default())
    }

    /// Whether there is no end, which is worse than any.
    fn hangs(&self) -> bool {
        self.text.contains("no end within")
    }

    pub(crate) fn not_available(name: &str, why: &str) -> Self {
        Self { text: format!("{name}: {why}"), kind: Kind::NotAvailable }
    }
}

/// What is said of a run. The worse, the greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    /// It went as it must.
    Ok,
    /// There is no such thing to be looked at.
    #[serde(rename = "n/a")]
    NotAvailable,
    /// The peer is not here.
    Skipped,
    /// The fault is the peer's own: a control fails as well.
    Peer,
    /// The fault is ours, or it is not known whose.
    Wrong,
}

impl Verdict {
    pub(crate) const ALL: [Self; 5] = [Self::Ok, Self::Wrong, Self::Peer, Self::NotAvailable, Self::Skipped];

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::NotAvailable => "n/a",
            Self::Skipped => "skipped",
            Self::Peer => "peer",
            Self::Wrong => "wrong",
        }
    }
}

/// The same behaviour with another library in evermux's place.
#[derive(Clone, Debug)]
pub(crate) struct Control {
    /// The library in our place.
    pub(crate) name: String,
    pub(crate) stands_for: StandsFor,
    pub(crate) outcome: Result<String, Failure>,
}

/// What a control is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StandsFor {
    /// The peer's own library. Any failure excuses evermux: without it nothing works better.
    Itself,
    /// A library that has nothing to do with either. It may have faults of its own, so it must fail in the same place, and
    /// no better.
    Another,
}

impl Control {
    /// The failure of this control, when it shows that the fault is there without evermux too.
    pub(crate) fn excuses(&self, failure: &Failure) -> Option<&Failure> {
        let excuse = self.outcome.as_ref().err().filter(|excuse| excuse.kind == Kind::Between)?;
        let is_alike = excuse.place() == failure.place() && (excuse.hangs() || !failure.hangs());
        (self.stands_for == StandsFor::Itself || is_alike).then_some(excuse)
    }
}

/// A verdict, and what it stands on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Judgement {
    pub(crate) verdict: Verdict,
    pub(crate) told: String,
}

impl Judgement {
    pub(crate) fn went_well(fact: String) -> Self {
        Self { verdict: Verdict::Ok, told: fact }
    }

    pub(crate) fn skipped(why: &str) -> Self {
        Self { verdict: Verdict::Skipped, told: why.to_owned() }
    }
}

/// Whether another control has to be run, after these.
pub(crate) fn wants_control(failure: &Failure, made: &[Control]) -> bool {
    failure.kind == Kind::Between && made.iter().all(|control| control.excuses(failure).is_none())
}

/// Judges a run with evermux that failed, by the controls that were made. One control that fails is enough: the fault
/// shows without evermux.
pub(crate) fn judge(failure: &Failure, controls: &[Control]) -> Judgement {
    let judgement = |verdict, told| Judgement { verdict, told };
    match failure.kind {
        Kind::NotAvailable => return judgement(Verdict::NotAvailable, failure.text.clone()),
        Kind::Ours => return judgement(Verdict::Wrong, failure.text.clone()),
        Kind::Between => {}
    }
    let fails = controls.iter().find_map(|control| Some((control, control.excuses(failure)?)));
    if let Some((control, excuse)) = fails {
        return judgement(
            Verdict::Peer,
            format!("{}. With {} in our place: {}", failure.text, control.name, excuse.text),
        );
    }
    let told = controls.iter().filter_map(|control| match &control.outcome {
        Ok(_) => Some(format!("With {} in our place it goes well", control.name)),
        Err(other) if other.kind == Kind::Between => {
            Some(format!("With {} in our place something else fails: {}", control.name, other.text))
        }
        Err(_) => None,
    });
    let told = told.collect::<Vec<_>>().join(". ");
    let told = if told.is_empty() { "No control could be run".into() } else { told };
    judgement(Verdict::Wrong, format!("{}. {told}", failure.text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn control(stands_for: StandsFor, outcome: Result<&str, Failure>) -> Control {
        let name = if stands_for == StandsFor::Itself { "itself" } else { "another" };
        Control { name: name.into(), stands_for, outcome: outcome.map(str::to_owned) }
    }

    #[test]
    fn a_failure_is_the_peers_only_when_a_control_fails_too() {
        let failed = Failure::new("we: read 1 10: end of file");
        let works = control(StandsFor::Itself, Ok(""));
        let judgement = judge(&failed, std::slice::from_ref(&works));
        assert_eq!(judgement.verdict, Verdict::Wrong);
        assert!(judgement.told.ends_with("With itself in our place it goes well"), "{}", judgement.told);
        assert!(wants_control(&failed, std::slice::from_ref(&works)));
        let fails = control(StandsFor::Itself, Err(Failure::new("it: write: lost")));
        assert_eq!(judge(&failed, std::slice::from_ref(&fails)).verdict, Verdict::Peer);
        assert!(!wants_control(&failed, &[fails]));
        assert_eq!(judge(&failed, &[]).verdict, Verdict::Wrong);
    }

    #[test]
    fn another_library_excuses_only_where_it_fails_in_the_same_place() {
        let failed = Failure::new("we: read 1 10: end of file");
        let itself = control(StandsFor::Itself, Ok(""));
        let same = control(StandsFor::Another, Err(Failure::new("we: read 2 10: lost")));
        assert_eq!(judge(&failed, &[itself.clone(), same]).verdict, Verdict::Peer);
        let hangs = control(StandsFor::Another, Err(Failure::new("we: read 1 10: no end within 8 s")));
        assert_eq!(judge(&failed, &[itself.clone(), hangs]).verdict, Verdict::Peer);
        for text in ["it: read 1 10: lost", "we: write 1 10: lost"] {
            let other = control(StandsFor::Another, Err(Failure::new(text)));
            let judgement = judge(&failed, &[itself.clone(), other]);
            assert_eq!(judgement.verdict, Verdict::Wrong, "{text}");
            assert!(judgement.told.contains("something else fails"), "{}", judgement.told);
        }
    }

    #[test]
    fn a_hang_is_not_excused_by_an_error() {
        let hangs = Failure::new("we: read 1 10: no end within 8 s");
        let other = control(StandsFor::Another, Err(Failure::new("we: read 1 10: lost")));
        assert_eq!(judge(&hangs, &[other]).verdict, Verdict::Wrong);
        let hangs_too = control(StandsFor::Another, Err(Failure::new("we: read 1 10: no end within 8 s")));
        assert_eq!(judge(&hangs, &[hangs_too]).verdict, Verdict::Peer);
    }

    #[test]
    fn a_control_that_lacks_the_thing_excuses_nothing() {
        let failed = Failure::new("it: end of file");
        let lacks = control(StandsFor::Itself, Err(Failure::not_available("we", "no way to reset")));
        let judgement = judge(&failed, &[lacks]);
        assert_eq!(judgement.verdict, Verdict::Wrong);
        assert!(judgement.told.ends_with("No control could be run"), "{}", judgement.told);
    }

    #[test]
    fn no_control_excuses_a_broken_word_of_evermux() {
        let failed = Failure::ours("we: end of file instead of an error");
        assert!(!wants_control(&failed, &[]));
        let fails = control(StandsFor::Itself, Err(Failure::new("we: the same")));
        assert_eq!(judge(&failed, &[fails]).verdict, Verdict::Wrong);
    }

    #[test]
    fn what_a_library_lacks_is_not_available() {
        let lacks = Failure::not_available("it", "no ping");
        assert_eq!(judge(&lacks, &[]).verdict, Verdict::NotAvailable);
    }
}
