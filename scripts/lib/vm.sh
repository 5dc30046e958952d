# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# The virtual machine: a kernel, an initramfs with busybox, the module and the
# programs, and QEMU from the build root. The output of a guest is in build/vm/NAME:
# console.log (the kernel), output.log (the steps).

VM=$BUILD/vm

# make_initramfs NAME DRIVER STEPS [PARAMETER...]: contains MODULE, HMM_TESTS,
# MM_TESTS and COMPANION, as far as they are set. Uncompressed, so that every kernel can read it.
make_initramfs() {
	local name=$1 driver=$2 steps=$3 dir=$VM/$1/initramfs file
	shift 3
	rm -rf "$dir"
	mkdir -p "$dir/bin" "$dir/etc" "$dir/lib"
	cp "$ROOT/bin/busybox" "$dir/bin/busybox"
	cp "$TOP/scripts/guest/init" "$dir/init"
	mkdir "$dir/steps"
	cp "$TOP/scripts/guest/ktap.sh" "${STEP_DIR:-$TOP/scripts/guest/steps}"/* "$dir/steps/"
	chmod 755 "$dir/init"
	for file in "${HMM_TESTS:-}" "${COMPANION:-}" ${MM_TESTS:+"${MM_TESTS[@]}"}; do
		[ -z "$file" ] || cp "$file" "$dir/bin/"
	done
	for file in ${MODULE:+"$MODULE"} ${SWAP_DISK:+"$SWAP_DISK"} ${EXTRA_MODULES:+"${EXTRA_MODULES[@]}"}; do
		cp "$file" "$dir/lib/"
	done
	# The guest's init reads this file.
	{
		echo "DRIVER='$driver'"
		echo "MODULE='/lib/$(basename "${MODULE:-none}")'"
		echo "PARAMETERS='$*'"
		echo "STEPS='$steps'"
		echo "STRESS='${STRESS:-}'"
		echo "BENCH='${BENCH_ARGUMENTS:-}'"
		echo "RACES='${RACES:-}'"
		echo "RACE_SECONDS='${RACE_SECONDS:-}'"
		echo "RACE_SEED='${RACE_SEED:-}'"
		echo "HMM_TESTS_SECONDS='${HMM_TESTS_SECONDS:-0}'"
		echo "COVERAGE='${COVERAGE_PLUGIN:+yes}'"
		echo "HAS_KUNIT='$(! kernel_has KUNIT || echo yes)'"
	} >"$dir/etc/run"
	in_root sh -e -c '
		cd "$1/initramfs"
		for module in lib/*.ko; do [ ! -e "$module" ] || strip --strip-debug "$module"; done
		find . | cpio --quiet -o -H newc >../initramfs.cpio' sh "/repo/build/vm/$name"
}

# qemu NAME LIMIT ACCELERATOR KERNEL-ARGUMENTS [QEMU-ARGUMENT...]: runs QEMU. Status
# 124 means that the time limit, in seconds, ended it. The guest has no network, no
# disk, and only the files of NAME. The CPU is Nehalem, because TCG runs the "rep movsb"
# of newer ones byte by byte; VM_CPU=OTHER selects another one. VM_NUMA=yes makes two
# nodes, with half of the memory and one CPU each. no_timer_check is there because on
# a busy machine the timer may be late when the kernel checks it, which is a panic.
#
# The accelerator icount is TCG with one CPU and a clock that advances by a nanosecond
# for each instruction, so that times are the same in each run.
qemu() {
	local name=$1 limit=$2 accel=$3 append=$4 machine=(-smp "${VM_CPUS:-2}")
	shift 4
	case $accel in
	tcg) accel=tcg,thread=multi ;;
	icount)
		accel=tcg,thread=single
		machine=(-smp 1 -icount 'shift=0,sleep=off')
		;;
	esac
	[ -z "${VM_NUMA:-}" ] || machine+=(
		-object "memory-backend-ram,id=node0,size=$(half_of "${VM_MEMORY:-2G}")M" -numa "node,nodeid=0,cpus=0,memdev=node0"
		-object "memory-backend-ram,id=node1,size=$(half_of "${VM_MEMORY:-2G}")M" -numa "node,nodeid=1,cpus=1,memdev=node1")
	# The plugin writes which instructions the guest executes to build/vm/NAME/executed. nokaslr, so that their
	# addresses can be mapped to lines.
	[ -z "${COVERAGE_PLUGIN:-}" ] || {
		machine+=(-plugin "file=$COVERAGE_PLUGIN,out=/repo/build/vm/$name/executed")
		append+=' nokaslr'
	}
	[ -z "${PREALLOC:-}" ] || machine+=(-object "memory-backend-ram,id=memory,prealloc=on,size=${VM_MEMORY:-2G}" -machine memory-backend=memory)
	in_root timeout --foreground --kill-after=5 "$limit" qemu-system-x86_64 -nodefaults -no-user-config -no-reboot -display none \
		-machine pc -accel "$accel" -cpu "${VM_CPU:-Nehalem}" "${machine[@]}" -m "${VM_MEMORY:-2G}" \
		-kernel "${KIMAGE/#"$CACHE"//cache}" -initrd "/repo/build/vm/$name/initramfs.cpio" \
		-append "console=ttyS0 loglevel=8 panic=-1 no_timer_check $append" "$@"
}

# half_of NUMBER-OF-GIB: prints half of it, in MiB.
half_of() { echo $((${1%G} * 512)); }

# Sets ACCEL to tcg or kvm. /dev/kvm may exist and open, and still hang every kernel.
# KVM is therefore used only if a trial boot reaches user space within seconds. The
# verdict is kept for this kernel on this machine.
choose_accel() {
	local verdict start=$SECONDS
	case ${DMIRROR_ACCEL:-auto} in
	tcg | kvm | icount)
		ACCEL=$DMIRROR_ACCEL
		return
		;;
	auto) ;;
	*) die "DMIRROR_ACCEL is '$DMIRROR_ACCEL'" "tcg, kvm or auto" ;;
	esac
	ACCEL=tcg
	in_root sh -c 'exec 3<>/dev/kvm' 2>/dev/null || return 0
	verdict=$CACHE/accel-$(digest "$KNAME" "$(readlink -f "$KIMAGE")" "$(stat -c %Y "$KIMAGE")" \
		"$(uname -r)" "$(grep -m 1 '^model name' /proc/cpuinfo)")
	if [ ! -s "$verdict" ]; then
		say "trying KVM with the kernel $KNAME (at most 10 seconds)"
		(MODULE='' HMM_TESTS='' COMPANION='' make_initramfs "trial-$KNAME" none '')
		if boot_once "trial-$KNAME" 10 kvm '' >"$LOGS/kvm-$KNAME.log" 2>&1 && gate_finished "$VM/trial-$KNAME/output.log"; then
			echo kvm >"$verdict"
		else
			echo tcg >"$verdict"
		fi
		note "after $((SECONDS - start)) s: $(sed 's/kvm/KVM works/; s/tcg/KVM does not reach user space here; software emulation/' "$verdict")"
	fi
	read -r ACCEL <"$verdict"
}

# boot_once NAME LIMIT ACCELERATOR KERNEL-ARGUMENTS [QEMU-ARGUMENT...]: boots
# build/vm/NAME and prints its progress, a line at a time. With VM_QUIET=SECONDS, a
# guest whose steps print nothing for that long is ended as by its time limit.
boot_once() {
	local name=$1 dir=$VM/$1 limit=$2 pid rc=0 line last=''
	rm -f "$dir/console.log" "$dir/output.log" "$dir/executed"
	touch "$dir/console.log" "$dir/output.log"
	qemu "$@" -serial "file:/repo/build/vm/$name/console.log" -serial "file:/repo/build/vm/$name/output.log" &
	pid=$!
	while kill -0 "$pid" 2>/dev/null; do
		sleep 0.5
		line=$(awk '{ sub(/\r$/, "") } $2 == "begin" { step = $3; ok = bad = 0 } /^ *ok / { ok++ } /^ *not ok / { bad++ }
			$2 == "begin" { said = "" } sub(/^# progress: /, "") { said = ", " $0 }
			END { print step ? step ": " ok + 0 " ok, " bad + 0 " not ok" said : "booting" }' "$dir/output.log")
		[ "$line" = "$last" ] || echo "$line"
		last=$line
		# The child of the subshell enters the root. Killing it ends everything in there.
		[ -z "${VM_QUIET:-}" ] || [ $(($(date +%s) - $(stat -c %Y "$dir/output.log"))) -le "$VM_QUIET" ] ||
			xargs -r kill -KILL <"/proc/$pid/task/$pid/children" || true
	done
	wait "$pid" || rc=$?
	sed -i 's/\r$//' "$dir/console.log" "$dir/output.log"
	if [ "$rc" = 124 ] || [ "$rc" = 137 ]; then
		echo "the guest did not end within $limit s; the end of its console:"
		tail -n 15 "$dir/console.log"
		echo "the end of its output:"
		tail -n 5 "$dir/output.log"
		return 124
	fi
	return "$rc"
}

# Whether a log shows an emulator fault, seen once with QEMU's multi-threaded TCG: a
# CPU in the scheduler runs into an int3 while another one patches a static key. It
# counts as such only if it is the kernel's first complaint.
emulator_fault() {
	REPORTS=$(IFS='|'; echo "${GATE_REPORTS[*]}") awk '
		!seen && $0 ~ ENVIRON["REPORTS"] { if ($0 !~ /Oops: int3/) exit; seen = NR }
		seen && /RIP: 0010:/ {
			found = ($0 ~ /RIP: 0010:(__schedule|schedule|sched_|__sched|scheduler|try_to_wake_up|ttwu|update_rq_clock|finish_task_switch|pick_next|pick_task|(en|de)queue_(task|entity)|set_next|put_prev|update_(curr|load)|check_preempt|wakeup_preempt|activate_task|select_task)/)
			exit
		}
		END { exit !found }' "$1"
}

# boot NAME LIMIT KERNEL-ARGUMENTS [QEMU-ARGUMENT...]: as boot_once, but boots once
# more after an emulator fault. That is reported, and the first log is kept.
boot() {
	local name=$1 limit=$2 append=$3 rc=0
	shift 3
	rm -f "$VM/$name/retried"
	boot_once "$name" "$limit" "$ACCEL" "$append" "$@" || rc=$?
	if [ "$ACCEL" = tcg ] && emulator_fault "$VM/$name/console.log"; then
		cp "$VM/$name/console.log" "$VM/$name/console.int3.log"
		echo "QEMU emulator fault (Oops: int3 in the scheduler); booting once more" | tee "$VM/$name/retried"
		rc=0
		boot_once "$name" "$limit" "$ACCEL" "$append" "$@" || rc=$?
	elif [ "$ACCEL" = tcg ] && [ "$rc" = 124 ] && [ ! -s "$VM/$name/output.log" ]; then
		# On a busy machine, TCG was seen to stand still while the kernel sets up its timers.
		cp "$VM/$name/console.log" "$VM/$name/console.stuck.log"
		echo "QEMU stood still before user space; booting once more" | tee "$VM/$name/retried"
		rc=0
		boot_once "$name" "$limit" "$ACCEL" "$append" "$@" || rc=$?
	fi
	return "$rc"
}
