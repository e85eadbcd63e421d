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
    /// Our side took what was cut for complete. The yamux crate does so with every peer, so its control says nothing.
    Honesty,
    /// evermux itself has not kept its word, whatever the peer did.
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

    pub(crate) fn honesty(text: impl Into<String>) -> Self {
        Self { text: text.into(), kind: Kind::Honesty }
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
    pub(crate) outcome: Result<String, Failure>,
}

/// A verdict, and what it stands on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Judgement {
    pub(crate) verdict: Verdict,
    pub(crate) told: String,
}

impl Judgement {
    pub(crate) fn skipped(why: &str) -> Self {
        Self { verdict: Verdict::Skipped, told: why.to_owned() }
    }
}

/// Whether a control has to be asked.
pub(crate) fn wants_controls(outcome: &Result<String, Failure>) -> bool {
    outcome.as_ref().is_err_and(|failure| matches!(failure.kind, Kind::Between | Kind::Honesty))
}

/// Whether the yamux crate in our place may be asked: where the peer's own library cannot play, and the failure is one
/// that the crate would not make with every peer.
pub(crate) fn wants_crate(outcome: &Result<String, Failure>, own: Option<&Control>) -> bool {
    let own_says_nothing =
        own.is_none_or(|own| own.outcome.as_ref().is_err_and(|failure| failure.kind == Kind::NotAvailable));
    own_says_nothing && outcome.as_ref().is_err_and(|failure| failure.kind == Kind::Between)
}

/// Judges a run with evermux by the controls that were made. One control that fails is enough: the fault shows without
/// evermux.
pub(crate) fn judge(outcome: &Result<String, Failure>, controls: &[Control]) -> Judgement {
    let failure = match outcome {
        Ok(fact) => return Judgement { verdict: Verdict::Ok, told: fact.clone() },
        Err(failure) => failure,
    };
    let judgement = |verdict, told| Judgement { verdict, told };
    match failure.kind {
        Kind::NotAvailable => return judgement(Verdict::NotAvailable, failure.text.clone()),
        Kind::Ours => return judgement(Verdict::Wrong, failure.text.clone()),
        Kind::Between | Kind::Honesty => {}
    }
    let fails = controls.iter().find_map(|control| match &control.outcome {
        Err(excuse) if excuse.kind != Kind::NotAvailable => Some((control, excuse)),
        _ => None,
    });
    if let Some((control, excuse)) = fails {
        return judgement(
            Verdict::Peer,
            format!("{}. With {} in our place: {}", failure.text, control.name, excuse.text),
        );
    }
    let works: Vec<_> =
        controls.iter().filter(|control| control.outcome.is_ok()).map(|control| control.name.as_str()).collect();
    let told = if works.is_empty() {
        format!("{}. No control could be run", failure.text)
    } else {
        format!("{}. With {} in our place it goes well", failure.text, works.join(" and with "))
    };
    judgement(Verdict::Wrong, told)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn control(name: &str, outcome: Result<&str, Failure>) -> Control {
        Control { name: name.into(), outcome: outcome.map(str::to_owned) }
    }

    #[test]
    fn what_goes_well_is_ok_and_tells_its_fact() {
        let judgement = judge(&Ok("3 refused".into()), &[]);
        assert_eq!((judgement.verdict, judgement.told.as_str()), (Verdict::Ok, "3 refused"));
    }

    #[test]
    fn a_failure_is_the_peers_only_when_a_control_fails_too() {
        let failed = Err(Failure::new("we: no end"));
        let fails = control("yamux-0.14", Err(Failure::new("we: lost")));
        let works = control("itself", Ok(""));
        assert_eq!(judge(&failed, &[works.clone(), fails.clone()]).verdict, Verdict::Peer);
        let judgement = judge(&failed, &[works]);
        assert_eq!(judgement.verdict, Verdict::Wrong);
        assert!(judgement.told.contains("With itself in our place it goes well"), "{}", judgement.told);
        assert_eq!(judge(&failed, &[]).verdict, Verdict::Wrong);
    }

    #[test]
    fn a_control_that_lacks_the_thing_excuses_nothing() {
        let failed = Err(Failure::new("it: end of file"));
        let lacks = control("itself", Err(Failure::not_available("we", "no way to reset")));
        let judgement = judge(&failed, &[lacks]);
        assert_eq!(judgement.verdict, Verdict::Wrong);
        assert!(judgement.told.ends_with("No control could be run"), "{}", judgement.told);
    }

    #[test]
    fn no_control_excuses_a_broken_word_of_evermux() {
        let failed = Err(Failure::ours("we: end of file instead of an error"));
        assert!(!wants_controls(&failed));
        let fails = control("itself", Err(Failure::new("the same")));
        assert_eq!(judge(&failed, &[fails]).verdict, Verdict::Wrong);
    }

    #[test]
    fn the_crate_is_asked_only_where_the_library_itself_says_nothing() {
        let failed = Err(Failure::new("we: no end"));
        let own = |outcome| control("itself", outcome);
        assert!(wants_crate(&failed, None));
        assert!(wants_crate(&failed, Some(&own(Err(Failure::not_available("we", "no reset"))))));
        assert!(!wants_crate(&failed, Some(&own(Ok("")))));
        assert!(!wants_crate(&failed, Some(&own(Err(Failure::new("the same"))))));
        assert!(!wants_crate(&Err(Failure::honesty("we: end of file")), None));
    }

    #[test]
    fn what_a_library_lacks_is_not_available() {
        let lacks = Err(Failure::not_available("it", "no ping"));
        assert_eq!(judge(&lacks, &[]).verdict, Verdict::NotAvailable);
    }
}
