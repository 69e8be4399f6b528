package runtime_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/forebayhub/forebay/plugins/builtin"
	"github.com/forebayhub/forebay/runtime/worker"
)

// A target that holds nothing begins at the time that its sink is given; one that holds something goes on behind it, whatever the sink says.
func TestSinkStartsAtATime(t *testing.T) {
	log, topic := openLog(t), unique("history")
	cl := client(t, log, kgo.DefaultProduceTopic(topic), kgo.AllowAutoTopicCreation())
	day := func(n int) time.Time { return time.Date(2026, 11, n, 12, 0, 0, 0, time.UTC) }
	produce := func(n int) {
		t.Helper()
		if err := cl.ProduceSync(t.Context(), &kgo.Record{Value: fmt.Appendf(nil, "day %d", n), Timestamp: day(n)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	for n := range 4 {
		produce(n + 1)
	}
	dir, o := t.TempDir(), worker.Options{Log: log, Group: unique("g"), Host: "h", DrainTimeout: 10 * time.Second, Registry: builtin.Registry()}
	with := func(start string) worker.Config {
		return builtinSink(t, "file", "files"+o.Group, map[string]string{"url": dir, "topics": topic, "format": "text", "rotate.interval": "100ms", "start": start})
	}
	lines := func() string {
		var all []string
		names, err := filepath.Glob(filepath.Join(dir, topic, "*"))
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range names { // in the order of offsets
			text, err := os.ReadFile(n)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, strings.Split(strings.TrimSpace(string(text)), "\n")...)
		}
		return strings.Join(all, ", ")
	}
	run := func(c worker.Config, want string, agreed, missing int) {
		t.Helper()
		o.Connectors = []worker.Config{c}
		_, stop := start(t, o)
		eventually(t, 30*time.Second, want, func() bool { return lines() == want })
		res := audited(t, o, c)
		if got := counts(res); got != fmt.Sprintf("%s-0 agreed=%d missing=%d doubled=0 different=0\n", topic, agreed, missing) {
			t.Error(got)
		}
		stop()
	}
	run(with(day(3).Add(-time.Minute).Format(time.RFC3339)), "day 3, day 4", 2, 0)
	produce(5)
	run(with(day(5).Format(time.RFC3339)), "day 3, day 4, day 5", 1, 0)
	produce(6)
	run(with("beginning"), "day 3, day 4, day 5, day 6", 4, 2) // as it is told now it lacks two
}
