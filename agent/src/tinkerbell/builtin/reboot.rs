//! `reboot`: the machine restarts, once the server knows that this action is done.

use nibs_job::Task;

use super::variables::Variables;
use super::{BadInput, Inputs};

pub(super) fn translate(inputs: Inputs<'_>) -> Result<Task, BadInput> {
    Variables::of(inputs).task("reboot")
}

#[cfg(test)]
mod tests {
    use super::super::tests::translated;
    use super::*;
    use nibs_job::params::Reboot;

    #[test]
    fn nothing_has_to_be_said() {
        let expected = Task::Reboot(Reboot { delay: None });
        assert_eq!(translated(translate, &[("ANYTHING", "else")]), Ok(expected));
    }
}
