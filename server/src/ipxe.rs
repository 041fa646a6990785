//! The scripts that iPXE runs: a chain script for all, and what each machine boots.
//!
//! For iPXE as Debian ships it (1.0.0+git-20190125), under UEFI and BIOS. That version does not
//! hand the initramfs to an EFI kernel by itself: the `initrd=` parameter has to name it.
//!
//! Nothing that a client sends gets into a script but in a form that was parsed and is written
//! anew: a [`MachineId`], a [`Mac`], an authority. All text here is ours or the operator's.

use std::fmt;

use nibs_job::Mac;

use crate::MachineId;

/// What iPXE reports of its machine. Values are escaped, an absent one is empty.
///
/// Relative to where the script came from, so that it works behind a proxy with a path of its own.
pub const CHAIN: &str = "#!ipxe
:retry
chain --replace ipxe?mac=${mac:hexhyp}&uuid=${uuid}&serial=${serial:uristring}&product=${product:uristring}&vendor=${manufacturer:uristring}&arch=${buildarch}&platform=${platform} || goto failed
:failed
echo Nibs: the boot script did not come, trying again in 5 seconds
sleep 5
goto retry
";

/// Where the kernel is served unless the operator says otherwise.
pub const DEFAULT_KERNEL: &str = "/assets/hook/vmlinuz-x86_64";
/// Where the initramfs is served unless the operator says otherwise.
pub const DEFAULT_INITRAMFS: &str = "/assets/hook/initramfs-x86_64";

/// The kernel takes the last one for /dev/console; the agent writes to all of them.
const CONSOLES: &str = "console=ttyS0,115200 console=tty0";

/// What `${buildarch}` is where the agent's kernel runs. A BIOS iPXE is a 32-bit program and says
/// i386 on a 64-bit machine too. Empty: who asked is no iPXE, such as a person with curl.
const ARCHITECTURES: [&str; 3] = ["x86_64", "i386", ""];

/// How the agent is booted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agent {
    /// URL of the kernel, or a path on this server.
    pub kernel: Source,
    /// URL of the initramfs, or a path on this server.
    pub initramfs: Source,
    /// Further kernel parameters.
    pub parameters: Parameters,
}

/// An absolute URL, or a path from this server's root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source(String);

/// Kernel parameters, as one line.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Parameters(String);

/// Whether a whole word can stand in a script: iPXE expands `${`, splits at blanks and reads
/// `||`, `&&` and a leading `#` as its own.
fn is_plain(word: &str) -> bool {
    !word.is_empty()
        && word.bytes().all(|byte| byte.is_ascii_graphic())
        && !word.contains("${")
        && !word.starts_with('#')
        && !matches!(word, "||" | "&&")
}

impl std::str::FromStr for Source {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_url = ["http://", "https://", "tftp://"].iter().any(|s| text.starts_with(s));
        if (is_url || text.starts_with('/')) && is_plain(text) {
            return Ok(Self(text.to_owned()));
        }
        Err(format!(
            "{text:?} is neither an http, https or tftp URL nor a path such as {DEFAULT_KERNEL}"
        ))
    }
}

impl std::str::FromStr for Parameters {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let words: Vec<&str> = text.split(' ').filter(|word| !word.is_empty()).collect();
        match words.iter().find(|word| !is_plain(word)) {
            None => Ok(Self(words.join(" "))),
            Some(word) => Err(format!("{word:?} cannot stand in a boot script")),
        }
    }
}

/// The script that boots the agent.
///
/// `base` is this server's URL without a slash at its end, as the machine can reach it.
pub fn boot_agent(
    agent: &Agent,
    base: &str,
    machine: Option<&MachineId>,
    mac: Option<Mac>,
    arch: &str,
    why: &str,
) -> String {
    if !ARCHITECTURES.contains(&arch) {
        return next_device("there is no agent for this architecture");
    }
    let at = |source: &Source| match &source.0 {
        path if path.starts_with('/') => format!("{base}{path}"),
        url => url.clone(),
    };
    let (kernel, initramfs) = (at(&agent.kernel), at(&agent.initramfs));
    let name = machine.map_or("this machine", MachineId::as_str);
    // iPXE knows it better than nobody.
    let card = mac.map_or_else(|| "${mac}".to_owned(), |mac| mac.to_string());
    let blank = if agent.parameters.0.is_empty() { "" } else { " " };
    let parameters = &agent.parameters.0;
    format!(
        "#!ipxe
echo Nibs: {name}: booting the agent, {why}
imgfree
kernel {kernel} initrd=initramfs nibs.control={base} hw_addr={card} {CONSOLES}{blank}{parameters} || goto failed
initrd --name initramfs {initramfs} || goto failed
boot || goto failed
:failed
echo Nibs: the agent could not be loaded, trying again in 10 seconds
sleep 10
chain --replace {base}/boot.ipxe || goto failed
"
    )
}

/// The script that leaves the machine to its next boot device.
///
/// A plain `exit` is success, and after a success UEFI firmware may stop at its menu instead of
/// going on in the boot order (UEFI 2.10, 3.1.1; OVMF does). An error makes it go on.
pub fn next_device(why: impl fmt::Display) -> String {
    format!("#!ipxe\necho Nibs: {why}; going on to the next boot device\nexit 1\n")
}

/// The script for a machine whose question could not be answered: it asks again.
pub fn ask_again(why: &str) -> String {
    format!(
        "#!ipxe
:failed
echo Nibs: {why}, asking again in 10 seconds
sleep 10
chain --replace boot.ipxe || goto failed
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent() -> Agent {
        Agent {
            kernel: DEFAULT_KERNEL.parse().unwrap(),
            initramfs: "https://mirror.example/initramfs".parse().unwrap(),
            parameters: "quiet  nibs.wait=1".parse().unwrap(),
        }
    }

    #[test]
    fn the_agent_is_booted_with_what_it_needs_to_know() {
        let machine: MachineId = "52:54:00:12:34:56".parse().unwrap();
        let mac = machine.mac();
        let base = "http://10.0.0.1:8080";
        let script = boot_agent(&agent(), base, Some(&machine), mac, "x86_64", "job demo");
        let kernel = script.lines().find(|line| line.starts_with("kernel ")).unwrap();
        assert_eq!(
            kernel,
            "kernel http://10.0.0.1:8080/assets/hook/vmlinuz-x86_64 initrd=initramfs \
             nibs.control=http://10.0.0.1:8080 hw_addr=52:54:00:12:34:56 \
             console=ttyS0,115200 console=tty0 quiet nibs.wait=1 || goto failed"
        );
        assert!(script.starts_with("#!ipxe\n"));
        assert!(script.contains("initrd --name initramfs https://mirror.example/initramfs ||"));
    }

    #[test]
    fn without_a_mac_ipxe_fills_its_own_in() {
        let script = boot_agent(&agent(), "http://h", None, None, "", "no job yet");
        assert!(script.contains(" hw_addr=${mac} "), "{script}");
    }

    #[test]
    fn an_architecture_without_an_agent_goes_on_to_the_next_device() {
        let script = boot_agent(&agent(), "http://h", None, None, "arm64", "no job yet");
        assert!(script.contains("exit 1") && !script.contains("kernel"), "{script}");
    }

    #[test]
    fn what_would_change_the_script_is_no_source_and_no_parameter() {
        for text in ["", "vmlinuz", "/a b", "/a\nshell", "/${shell}", "ftp://h/a", "file:///a"] {
            assert!(text.parse::<Source>().is_err(), "{text:?}");
        }
        for text in ["a || shell", "a && shell", "a\nshell", "a=${b}", "# b", "a\tb"] {
            assert!(text.parse::<Parameters>().is_err(), "{text:?}");
        }
        assert_eq!("".parse::<Parameters>().unwrap(), Parameters::default());
    }
}
