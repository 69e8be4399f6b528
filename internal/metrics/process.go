package metrics

import (
	"os"
	"runtime"
	"runtime/metrics"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// What every Go process tells, by the names that dashboards know.
var (
	cpuSeconds = Counter("process_cpu_seconds_total", "Processor time of this process, user and system.")
	resident   = Gauge("process_resident_memory_bytes", "Memory of this process that is in RAM.")
	openFiles  = Gauge("process_open_fds", "Open file descriptors.")
	mostFiles  = Gauge("process_max_fds", "Limit of open file descriptors.")
	startTime  = Gauge("process_start_time_seconds", "When this process started, in Unix time.")
	goroutines = Gauge("go_goroutines", "Goroutines.")
	goInfo     = Gauge("go_info", "Always 1; the version of Go.", "version")
	heapBytes  = Gauge("go_memstats_heap_alloc_bytes", "Bytes of heap objects.")
	sysBytes   = Gauge("go_memstats_sys_bytes", "Memory that the Go runtime has mapped.")
	allocated  = Counter("go_memstats_alloc_bytes_total", "Bytes of heap objects that were ever allocated.")
	collected  = Counter("go_gc_cycles_total", "Garbage collections.")
	gcSeconds  = Counter("go_gc_cpu_seconds_total", "Estimate of the processor time that garbage collection took.")
	goProcs    = Gauge("go_gomaxprocs", "Processors that Go code may use at a time.")
	version    = Gauge("forebay_build", "Always 1; the version of forebay.", "version")
)

// ProcessFamilies are those of Process.
var ProcessFamilies = []*Family{version, startTime, cpuSeconds, resident, openFiles, mostFiles, goInfo, goProcs, goroutines, heapBytes, sysBytes, allocated, collected, gcSeconds}

var started = time.Now()

// Process writes what this process uses. build is its version.
func Process(w *Writer, build string) {
	w.Value(version, 1, build)
	w.Value(startTime, float64(started.UnixMilli())/1000)
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) == nil {
		w.Value(cpuSeconds, time.Duration(u.Utime.Nano()+u.Stime.Nano()).Seconds())
	}
	if text, err := os.ReadFile("/proc/self/statm"); err == nil { // elsewhere than on Linux it is left out
		if f := strings.Fields(string(text)); len(f) > 1 {
			pages, _ := strconv.ParseInt(f[1], 10, 64)
			w.Count(resident, pages*int64(os.Getpagesize()))
		}
	}
	if list, err := os.ReadDir("/proc/self/fd"); err == nil {
		w.Count(openFiles, int64(len(list)))
	}
	var l unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &l) == nil {
		w.Value(mostFiles, float64(l.Cur))
	}
	w.Value(goInfo, 1, runtime.Version())
	for _, s := range []struct {
		f    *Family
		name string
	}{
		{goProcs, "/sched/gomaxprocs:threads"}, {goroutines, "/sched/goroutines:goroutines"}, {heapBytes, "/memory/classes/heap/objects:bytes"},
		{sysBytes, "/memory/classes/total:bytes"}, {allocated, "/gc/heap/allocs:bytes"}, {collected, "/gc/cycles/total:gc-cycles"}, {gcSeconds, "/cpu/classes/gc/total:cpu-seconds"},
	} {
		one := []metrics.Sample{{Name: s.name}}
		metrics.Read(one)
		switch one[0].Value.Kind() {
		case metrics.KindUint64:
			w.Value(s.f, float64(one[0].Value.Uint64()))
		case metrics.KindFloat64:
			w.Value(s.f, one[0].Value.Float64())
		}
	}
}
