package task

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/runtime/hublog"
)

var aPartition = connectors.TopicPartition{Topic: "t"}

// runOf makes records of letters: d is the first half of a change of a key, c the second, t a tombstone, x anything else.
func runOf(at int64, kinds string) hublog.Run {
	run := hublog.Run{TopicPartition: aPartition, Next: at + int64(len(kinds))}
	for i, kind := range kinds {
		r := connectors.Record{Topic: aPartition.Topic, Offset: at + int64(i), RawKey: []byte{1}, RawValue: []byte{byte(kind)}}
		switch kind {
		case 'd':
			r.Headers = []connectors.Header{{Key: headerNewKey, Value: []byte("new")}}
		case 'c':
			r.Headers = []connectors.Header{{Key: headerOldKey, Value: []byte("old")}}
		case 't':
			r.RawValue = nil
		}
		run.Records = append(run.Records, r)
	}
	return run
}

func TestHalves(t *testing.T) {
	const forLong = 10 * halfWait
	type poll struct {
		took  time.Duration
		ahead bool // the log has more than this
		in    string
		want  string // records and the offset behind them, of each run
	}
	quiet := func(n int, ahead bool) []poll { return slices.Repeat([]poll{{took: pollWait, ahead: ahead}}, n) } // nothing comes
	const enough = int(halfWait / pollWait)
	for name, polls := range map[string][]poll{
		"whole":               {{in: "xdtcx", want: "xdtcx5"}},
		"parted":              {{in: "xdt", want: "x1"}, {in: "cx", want: "dtcx5"}},
		"parted twice":        {{in: "xd", want: "x1"}, {in: "t", want: "1"}, {in: "c", want: "dtc4"}},
		"two, one after both": {{in: "dtd", want: "dt2"}, {in: "t", want: "2"}, {in: "x", want: "dtx5"}},
		"alone":               slices.Concat([]poll{{in: "xdt", want: "x1"}}, quiet(enough-1, false), []poll{{took: pollWait, want: "dt3"}}),
		"alone, with markers": slices.Concat([]poll{{in: "xdt", want: "x1"}, {in: "m", want: "1"}}, quiet(enough-1, false), []poll{{took: pollWait, want: "dt4"}}),
		// A commit of another partition takes long between two polls, or the machine sleeps.
		"a long commit": {{in: "dt", want: "0"}, {took: forLong}, {took: forLong}, {took: forLong, in: "c", want: "dtc3"}},
		// The log has the second half, and other partitions are read before it.
		"behind":                 slices.Concat([]poll{{in: "dt", want: "0", ahead: true}}, quiet(3*enough, true), []poll{{in: "c", want: "dtc3"}}),
		"behind, and then alone": slices.Concat([]poll{{in: "dt", want: "0", ahead: true}}, quiet(3, true), quiet(enough-1, false), []poll{{took: pollWait, want: "dt2"}}),
	} {
		h := halves{of: map[connectors.TopicPartition]*half{}}
		now, at := time.Now(), int64(0)
		for i, p := range polls {
			now = now.Add(p.took)
			var runs []hublog.Run
			switch p.in {
			case "":
			case "m": // nothing but the marker of a transaction
				at++
				runs = append(runs, hublog.Run{TopicPartition: aPartition, Next: at})
			default:
				runs = append(runs, runOf(at, p.in))
				at += int64(len(p.in))
			}
			got := ""
			for _, run := range h.join(runs, now, func(connectors.TopicPartition) bool { return p.ahead }) {
				for _, r := range run.Records {
					if r.RawValue == nil {
						r.RawValue = []byte("t")
					}
					got += string(r.RawValue)
				}
				got += fmt.Sprint(run.Next)
			}
			if got != p.want {
				t.Errorf("%s: poll %d gives %q instead of %q", name, i, got, p.want)
			}
			if len(runs) > 0 { // the poller uses its memory again
				for j := range runs[0].Records {
					clear(runs[0].Records[j].RawKey)
					clear(runs[0].Records[j].RawValue)
					clear(runs[0].Records[j].Headers)
				}
			}
		}
	}
}

func TestPortionsDoNotPartMoves(t *testing.T) {
	fill := func(n int) string { return strings.Repeat("x", n) }
	deletes := strings.Repeat("dt", 700) // whose other halves were left out
	for kinds, want := range map[string]int{fill(1200): 1000, fill(999) + "dtc": 999, fill(998) + "dtcxx": 998, fill(997) + "dtcxx": 1000, deletes: 998, fill(500): 500, "dt": 2} {
		if got := len(portionOf(runOf(0, kinds).Records)); got != want {
			t.Errorf("%.3s… of %d: a portion of %d instead of %d", kinds, len(kinds), got, want)
		}
	}
}
