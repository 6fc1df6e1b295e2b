//! The test machine's file system: a handful of this machine's programs with their libraries, in memory.
//!
//! `/lib` is a link to `/usr/lib`, as on Debian: a probe is bound to an inode, and two copies of libssl are two
//! inodes.

use std::collections::BTreeSet;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::kernels::Kernel;
use crate::sh;

/// Real programs; busybox does for the rest.
const PROGRAMS: [&str; 15] = [
    "nginx", "curl", "openssl", "python3", "ip", "sh", "bash", "env", "sleep", "cat", "setpriv", "prlimit",
    "unshare", "nsenter", "dd",
];
/// Without these a program of the list does not start or behaves oddly.
const FILES: [&str; 8] = [
    "/etc/passwd",
    "/etc/group",
    "/etc/hosts",
    "/etc/nsswitch.conf",
    "/etc/services",
    "/etc/ssl/openssl.cnf",
    "/usr/lib/ssl/openssl.cnf",
    "/etc/nginx/mime.types",
];
/// Modules that Debian's kernels do not have built in, and the tests need. Dependencies come with them.
const MODULES: [&str; 6] = ["veth", "inet_diag", "tcp_diag", "tls", "dummy", "overlay"];
/// Of Python's library, what no test imports and what is large.
const PYTHON_SKIPPED: [&str; 9] = [
    "test",
    "__pycache__",
    "idlelib",
    "tkinter",
    "lib2to3",
    "distutils",
    "pydoc_data",
    "ensurepip",
    "turtledemo",
];

/// Where Debian has what is not Python's own, and what of it the tests import.
const DIST_PACKAGES: &str = "/usr/lib/python3/dist-packages";
const PYTHON_PACKAGES: [&str; 5] = ["grpc", "websockets", "h2", "hpack", "hyperframe"];

/// How many times longer than on a machine of its own a test may wait for something: everything is emulated.
const PATIENCE: u32 = 8;

/// Where our binaries are in the test machine.
const BINARIES: &str = "/apiward/bin";

/// What the test machine does once it is up.
pub enum What {
    /// The integration tests of these names, in this order; without names, all.
    Tests { names: Vec<String> },
    /// A shell script; its exit code is the verdict.
    Script(String),
}

/// Everything but the kernel's modules.
pub struct Base {
    root: PathBuf,
    folder: PathBuf,
    tests: String,
}

impl Base {
    /// Collects the files below `folder`. The last of `ours` is the integration binary.
    pub fn new(folder: &Path, ours: &[PathBuf]) -> Result<Base> {
        let root = folder.join("root");
        if root.exists() {
            std::fs::remove_dir_all(&root)?;
        }
        for below in [
            "usr/bin",
            "usr/sbin",
            "usr/lib",
            "usr/lib64",
            "etc",
            "proc",
            "sys",
            "dev",
            "tmp",
            "run",
            "var/log",
            "var/lib",
            "var/tmp",
            "bbin",
            "root",
            "apiward/bin",
        ] {
            std::fs::create_dir_all(root.join(below))?;
        }
        for name in ["bin", "sbin", "lib", "lib64"] {
            symlink(format!("usr/{name}"), root.join(name))?;
        }
        let mut copy = Copy {
            root: root.clone(),
            done: BTreeSet::new(),
        };
        for program in PROGRAMS {
            let path = sh::which(program)
                .with_context(|| format!("{program} is missing: `cargo xtask setup --vm`"))?;
            copy.program(&path)?;
        }
        let busybox = sh::which("busybox").context("busybox is missing: `cargo xtask setup --vm`")?;
        std::fs::copy(busybox, root.join("usr/bin/busybox"))?;
        for file in FILES {
            if Path::new(file).exists() {
                copy.file(Path::new(file))?;
            }
        }
        copy.python()?;
        let mut tests = String::new();
        for program in ours {
            let name = program
                .file_name()
                .and_then(|name| name.to_str())
                .context("a program without a name")?;
            std::fs::copy(program, root.join("apiward/bin").join(name))?;
            copy.libraries(program)?;
            tests = format!("{BINARIES}/{name}");
        }
        // Test data is found by the path that was compiled in.
        for data in ["tests", "deploy/policies"] {
            copy.tree(&sh::root().join(data), &["target", "fuzz"])?;
        }
        Ok(Base {
            root,
            folder: folder.to_path_buf(),
            tests,
        })
    }

    /// Adds a kernel's modules and the first process, and packs it all. Returns the archive.
    /// `has`: the features of this kernel that tests may hold the agent to.
    pub fn with_kernel(&self, kernel: &Kernel, has: &[&str], what: &What) -> Result<PathBuf> {
        let modules = self.root.join("modules");
        let _ = std::fs::remove_dir_all(&modules);
        std::fs::create_dir_all(&modules)?;
        let order = module_order(kernel)?;
        for module in &order {
            unpack_module(&kernel.modules.join(module), &modules)?;
        }
        let names: Vec<String> = order.iter().map(|module| module_file_name(module)).collect();
        let init = self.root.join("init");
        let command = match what {
            What::Tests { names } => tests_command(&self.tests, names),
            What::Script(text) => {
                std::fs::write(self.root.join("script.sh"), text)?;
                "sh /script.sh".to_owned()
            }
        };
        std::fs::write(&init, init_script(&names, has, &command))?;
        std::fs::set_permissions(&init, std::fs::Permissions::from_mode(0o755))?;
        let archive = self.folder.join("initrd.cpio");
        let script = "find . -print0 | cpio --quiet --null --create --format=newc --owner=0:0 > \"$1\"";
        sh::read(
            Command::new("sh")
                .current_dir(&self.root)
                .args(["-c", script, "sh"])
                .arg(&archive),
        )?;
        Ok(archive)
    }
}

/// Runs the named tests one after the other, or all at once; ends with the worst of their codes.
fn tests_command(tests: &str, names: &[String]) -> String {
    let run = format!("{tests} --test-threads=1 --nocapture");
    if names.is_empty() {
        return run;
    }
    let quoted: Vec<String> = names
        .iter()
        .map(|name| format!("'{}'", name.replace('\'', "")))
        .collect();
    format!(
        "worst=0\n\
         for name in {}; do\n\
         {run} --exact \"$name\" || worst=$?\n\
         done\n\
         (exit $worst)",
        quoted.join(" ")
    )
}

/// What the first process does: mounts, modules, the tests, the verdict, the end.
fn init_script(modules: &[String], has: &[&str], command: &str) -> String {
    let modules = modules.join(" ");
    let has = has.join(",");
    format!(
        "#!/usr/bin/busybox sh\n\
         export PATH=/usr/sbin:/usr/bin:/bbin HOME=/root\n\
         /usr/bin/busybox --install -s /bbin\n\
         mount -t proc proc /proc\n\
         mount -t sysfs sysfs /sys\n\
         mount -t devtmpfs dev /dev\n\
         exec < /dev/console > /dev/console 2>&1\n\
         mkdir -p /dev/pts /dev/shm\n\
         mount -t devpts devpts /dev/pts\n\
         mount -t tmpfs tmpfs /dev/shm\n\
         mount -t tmpfs tmpfs /tmp\n\
         mount -t tmpfs tmpfs /run\n\
         mount -t cgroup2 none /sys/fs/cgroup\n\
         mount -t bpf none /sys/fs/bpf\n\
         mount -t tracefs none /sys/kernel/tracing\n\
         ip link set lo up\n\
         for module in {modules}; do insmod /modules/$module || echo \"module $module was refused\"; done\n\
         export APIWARD_BIN_DIR={BINARIES} APIWARD_TEST_PATIENCE={PATIENCE} APIWARD_TEST_KERNEL_HAS={has}\n\
         {command}\n\
         echo \"{}$?\"\n\
         sync\n\
         poweroff -f\n",
        super::boot::VERDICT
    )
}

/// The wanted modules with their dependencies, dependencies first, as paths below the modules' folder.
fn module_order(kernel: &Kernel) -> Result<Vec<String>> {
    sh::read(
        Command::new("/usr/sbin/depmod")
            .arg("-b")
            .arg(&kernel.root)
            .arg(&kernel.version),
    )
    .context("the kernel's modules cannot be indexed (package kmod)")?;
    let index = std::fs::read_to_string(kernel.modules.join("modules.dep"))?;
    let mut order: Vec<String> = Vec::new();
    for wanted in MODULES {
        // Built into the kernel, or not there: the tests will tell.
        let Some(line) = index.lines().find(|line| line_names(line, wanted)) else {
            continue;
        };
        let Some((module, dependencies)) = line.split_once(':') else {
            continue;
        };
        for path in dependencies.split_whitespace().rev().chain([module]) {
            if !order.iter().any(|known| known == path) {
                order.push(path.to_owned());
            }
        }
    }
    Ok(order)
}

fn line_names(line: &str, module: &str) -> bool {
    let Some((path, _)) = line.split_once(':') else {
        return false;
    };
    let file = module_file_name(path);
    file.strip_suffix(".ko")
        .is_some_and(|name| name.replace('-', "_") == module)
}

/// `kernel/drivers/net/veth.ko.xz` → `veth.ko`.
fn module_file_name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.trim_end_matches(".xz").trim_end_matches(".zst").to_owned()
}

fn unpack_module(module: &Path, folder: &Path) -> Result<()> {
    let text = module.to_string_lossy();
    let target = folder.join(module_file_name(&text));
    let tool = match text.rsplit('.').next() {
        Some("xz") => "xz",
        Some("zst") => "zstd",
        _ => {
            std::fs::copy(module, target).with_context(|| format!("{text} is not there"))?;
            return Ok(());
        }
    };
    let output = Command::new(tool)
        .args(["-d", "-c"])
        .arg(module)
        .output()
        .context(tool)?;
    if !output.status.success() {
        bail!("{text} cannot be unpacked with {tool}");
    }
    std::fs::write(target, output.stdout)?;
    Ok(())
}

/// Copies files of this machine to the same place in the other.
struct Copy {
    root: PathBuf,
    done: BTreeSet<PathBuf>,
}

impl Copy {
    /// A program or library with everything it is linked to.
    fn program(&mut self, path: &Path) -> Result<()> {
        self.file(path)?;
        self.libraries(path)
    }

    fn libraries(&mut self, path: &Path) -> Result<()> {
        // Static programs and scripts have none; ldd says so by failing.
        let Ok(text) = sh::read(Command::new("ldd").arg(path)) else {
            return Ok(());
        };
        for library in linked(&text) {
            self.file(&library)?;
        }
        Ok(())
    }

    /// One file; links are kept, and what they lead to is copied too.
    fn file(&mut self, path: &Path) -> Result<()> {
        let parent = path.parent().and_then(|parent| parent.canonicalize().ok());
        let (Some(parent), Some(name)) = (parent, path.file_name()) else {
            bail!("{} is not there", path.display());
        };
        // The folder without links: `/lib/x` is `/usr/lib/x`.
        let path = parent.join(name);
        if !self.done.insert(path.clone()) {
            return Ok(());
        }
        let target = self.root.join(path.strip_prefix("/").unwrap_or(&path));
        if let Some(folder) = target.parent() {
            std::fs::create_dir_all(folder)?;
        }
        if path.symlink_metadata()?.is_symlink() {
            let to = std::fs::read_link(&path)?;
            symlink(&to, &target).with_context(|| target.display().to_string())?;
            return self.file(&parent.join(to));
        }
        std::fs::copy(&path, &target).with_context(|| format!("{} cannot be copied", path.display()))?;
        Ok(())
    }

    fn tree(&mut self, folder: &Path, skipped: &[&str]) -> Result<()> {
        for entry in std::fs::read_dir(folder).into_iter().flatten() {
            let entry = entry?;
            if skipped.iter().any(|name| entry.file_name() == *name) {
                continue;
            }
            if entry.file_type()?.is_dir() {
                self.tree(&entry.path(), skipped)?;
            } else {
                self.file(&entry.path())?;
            }
        }
        Ok(())
    }

    /// Python's library, and what its compiled modules are linked to (libssl among them).
    fn python(&mut self) -> Result<()> {
        let python = sh::which("python3").context("python3 is missing")?;
        let library = sh::read(Command::new(python).args([
            "-I",
            "-c",
            "import sysconfig; print(sysconfig.get_path('stdlib'))",
        ]))?;
        let library = PathBuf::from(library.trim());
        self.tree(&library, &PYTHON_SKIPPED)?;
        for entry in std::fs::read_dir(library.join("lib-dynload"))? {
            self.libraries(&entry?.path())?;
        }
        for package in PYTHON_PACKAGES {
            let folder = Path::new(DIST_PACKAGES).join(package);
            if !folder.is_dir() {
                bail!("{} is missing: `cargo xtask setup --demo`", folder.display());
            }
            self.tree(&folder, &PYTHON_SKIPPED)?;
        }
        let compiled = Path::new(DIST_PACKAGES).join("grpc/_cython");
        for entry in std::fs::read_dir(compiled)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "so") {
                self.libraries(&path)?;
            }
        }
        Ok(())
    }
}

/// The files that `ldd` names.
fn linked(text: &str) -> Vec<PathBuf> {
    text.lines()
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')))
        .map(PathBuf::from)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_failure_of_several_names_is_the_verdict() {
        let run = |tests: &str| {
            let names = ["bad".to_owned(), "it's good".to_owned()];
            let script = tests_command(tests, &names);
            Command::new("sh").args(["-c", &script]).status().ok()?.code()
        };
        // The name is the last argument of the "tests".
        let picky = "sh -c 'test \"$4\" != bad' sh";
        assert_eq!(run(picky), Some(1));
        assert_eq!(run("true"), Some(0));
    }

    #[test]
    fn libraries_are_read_from_ldd() {
        let text = "\tlinux-vdso.so.1 (0x00007ffc)\n\tlibssl.so.3 => /lib/x86_64-linux-gnu/libssl.so.3 (0x7f)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x7f)\n";
        assert_eq!(
            linked(text),
            ["/lib/x86_64-linux-gnu/libssl.so.3", "/lib64/ld-linux-x86-64.so.2"].map(PathBuf::from)
        );
    }

    #[test]
    fn modules_are_found_by_name() {
        assert!(line_names(
            "kernel/net/ipv4/tcp_diag.ko.xz: kernel/net/ipv4/inet_diag.ko.xz",
            "tcp_diag"
        ));
        assert!(!line_names("kernel/net/mptcp/mptcp_diag.ko:", "tcp_diag"));
    }
}
