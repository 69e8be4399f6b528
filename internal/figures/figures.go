// Package figures measures processes for the benchmarks: CPU seconds and
// resident memory from /proc, medians over rounds.
package figures

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// clockTick is USER_HZ, which Linux fixes at 100 for /proc.
const clockTick = 100

// CPU is the user and system seconds that the processes and all their threads have used.
func CPU(pids ...int) (seconds float64) {
	for _, pid := range pids {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			continue // it has ended
		}
		fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
		for _, f := range fields[11:15] { // utime, stime, and those of children that were waited for
			n, _ := strconv.Atoi(f) // the kernel writes numbers
			seconds += float64(n) / clockTick
		}
	}
	return seconds
}

// RSS is the resident memory in MiB, now and at its peak.
func RSS(pids ...int) (now, peak float64) {
	for _, pid := range pids {
		now += Memory(pid, "VmRSS")
		peak += Memory(pid, "VmHWM")
	}
	return now, peak
}

// Memory is a line of /proc/PID/status in MiB: RssAnon, say. 0 if the process has ended.
func Memory(pid int, line string) float64 {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid)) // ended: nothing is found
	_, rest, _ := strings.Cut(string(text), "\n"+line+":")
	var kib float64
	_, _ = fmt.Sscan(rest, &kib) // the kernel writes numbers
	return kib / 1024
}

// Children are the processes whose parent is pid, and theirs.
func Children(pid int) (pids []int) {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid)) // ended: none
	for _, f := range strings.Fields(string(text)) {
		n, _ := strconv.Atoi(f) // the kernel writes numbers
		pids = append(pids, n)
		pids = append(pids, Children(n)...)
	}
	return pids
}

// Series are the values of one figure over rounds.
type Series []float64

// String is the median and, in brackets, the range.
func (s Series) String() string {
	if len(s) == 0 {
		return "-"
	}
	return fmt.Sprintf("%.3g (%.3g–%.3g)", s.Median(), slices.Min(s), slices.Max(s))
}

// Median of the values.
func (s Series) Median() float64 {
	if len(s) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(s))
	return sorted[len(sorted)/2]
}

// Watch is a stretch of wall and CPU time.
type Watch struct {
	began time.Time
	cpu   float64
	pids  []int
}

// Begin starts a Watch over processes.
func Begin(pids ...int) Watch { return Watch{time.Now(), CPU(pids...), pids} }

// End is the wall and CPU seconds since Begin.
func (w Watch) End() (wall, cpu float64) {
	return time.Since(w.began).Seconds(), CPU(w.pids...) - w.cpu
}
