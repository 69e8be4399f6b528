package metadata

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// beforeLoss is a topic t of two partitions on nodes 1 to 3 and a topic one on node 1, at leader epoch 3 or so.
func beforeLoss(t *testing.T, minISR string) *Image {
	t.Helper()
	image := NewImage()
	commands := []Command{&SetClusterID{ID: "cluster"}, &SetFeatures{Levels: map[string]int16{FeatureELR: 1}}}
	for id := range NodeID(3) {
		commands = append(commands, &RegisterNode{ID: id + 1, Host: "h", Port: 9092, Level: Level})
	}
	commands = append(commands,
		&CreateTopics{Topics: []TopicSpec{
			{Name: "t", ID: testID("t"), Assignment: [][]NodeID{{1, 2, 3}, {2, 3, 1}}, Configs: map[string]string{minISRConfig: minISR}},
			{Name: "one", ID: testID("one"), Assignment: [][]NodeID{{1}}},
		}},
		&AllocateProducerIDs{Count: 1000})
	for k, c := range commands {
		next, r := Apply(image, uint64(k+1), c)
		if r.Err != nil {
			t.Fatal(r.Err)
		}
		image = next
	}
	return image
}

func logOf(topic string, number int32, last, highest Epoch, end int64) LogEnd {
	return LogEnd{Topic: topic, ID: testID(topic), Number: number, LastEpoch: last, MaxEpoch: highest, End: end}
}

// TestRestoreElects: who has the most of the highest epoch leads, above every epoch that anybody knows, when it registers and not before; what may be missing is said.
func TestRestoreElects(t *testing.T) {
	for _, c := range []struct {
		name, minISR string
		surveys      []Survey
		want         string // leader of each partition; "!" behind it: a risk
	}{
		{"all are there", "1", []Survey{{Node: 1}, {Node: 2}, {Node: 3}}, "t-0:1 t-1:2 one-0:1"},
		{"the longest log", "1", []Survey{
			{Node: 1, Logs: []LogEnd{logOf("t", 0, 4, 4, 10)}}, {Node: 2, Logs: []LogEnd{logOf("t", 0, 4, 4, 12)}}, {Node: 3, Logs: []LogEnd{logOf("t", 0, 4, 4, 11)}},
		}, "t-0:2 t-1:2 one-0:1"},
		{"a higher epoch before a longer log", "1", []Survey{
			{Node: 1, Logs: []LogEnd{logOf("t", 0, 4, 9, 100)}}, {Node: 2, Logs: []LogEnd{logOf("t", 0, 5, 5, 12)}}, {Node: 3},
		}, "t-0:2 t-1:2 one-0:1"},
		{"one is missing, two had to be in sync", "2", []Survey{{Node: 2}, {Node: 3, Logs: []LogEnd{logOf("t", 0, 4, 4, 1)}}}, "t-0:3 t-1:2 one-0:2!"},
		{"one is missing, one had to be in sync", "1", []Survey{{Node: 2}, {Node: 3}}, "t-0:2! t-1:2! one-0:2!"},
		{"two are missing", "2", []Survey{{Node: 3}}, "t-0:3! t-1:3! one-0:3!"},
		{"a tail may be lost", "2", []Survey{{Node: 1}, {Node: 2, TailLost: true}}, "t-0:1! t-1:2! one-0:1"},
		{"a log cannot be read", "2", []Survey{{Node: 1, Logs: []LogEnd{{Topic: "t", ID: testID("t"), Failed: "bad"}}}, {Node: 2}}, "t-0:2! t-1:2 one-0:1"},
		{"nothing is left but a log that cannot be read", "2", []Survey{{Node: 1, Logs: []LogEnd{{Topic: "one", ID: testID("one"), Failed: "bad"}}}, {Node: 2}, {Node: 3}}, "t-0:1 t-1:2 one-0:1!"},
		{"moved after the backup", "1", []Survey{{Node: 1}, {Node: 2}, {Node: 3, Logs: []LogEnd{logOf("one", 0, 7, 7, 5)}}}, "t-0:1 t-1:2 one-0:3!"},
		{"nothing is left", "1", nil, "t-0:2! t-1:2! one-0:2!"},
	} {
		image := beforeLoss(t, c.minISR)
		founder := NodeID(2)
		if len(c.surveys) > 0 {
			founder = c.surveys[0].Node
		}
		r, err := Restore(image, 100, "r1", founder, c.surveys)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		risk := map[string]bool{}
		for _, p := range r.Partitions {
			risk[fmt.Sprintf("%s-%d", p.Topic, p.Number)] = p.Risk != ""
		}
		again, err := DecodeImage(EncodeImage(r.Image))
		if err != nil || show(again) != show(r.Image) || again.Restored != "r1" || again.Identity() == image.Identity() {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if again.NextProducerID < image.NextProducerID+producerMargin {
			t.Errorf("%s: producer ids go on at %d", c.name, again.NextProducerID)
		}
		// All come up again, in some order.
		now := again
		for k, id := range []NodeID{3, 1, 2} {
			for _, p := range now.partitions(func(p *Partition) bool { return p.Leader == id }) {
				t.Errorf("%s: node %d leads %s-%d and has not come", c.name, id, p.Topic, p.Number)
			}
			var res Result
			if now, res = Apply(now, uint64(101+k), &RegisterNode{ID: id, Host: "h", Port: 9092, Level: Level}); res.Err != nil {
				t.Fatal(res.Err)
			}
		}
		var got []string
		for _, at := range []struct {
			topic  string
			number int32
		}{{"t", 0}, {"t", 1}, {"one", 0}} {
			p, was := now.Partition(at.topic, at.number), image.Partition(at.topic, at.number)
			said := fmt.Sprintf("%s-%d:%d", at.topic, at.number, p.Leader)
			if risk[fmt.Sprintf("%s-%d", at.topic, at.number)] {
				said += "!"
			}
			got = append(got, said)
			highest := was.LeaderEpoch
			for _, s := range c.surveys {
				for _, l := range s.Logs {
					if l.Topic == at.topic && l.Number == at.number {
						highest = max(highest, l.MaxEpoch, l.LastEpoch)
					}
				}
			}
			if p.LeaderEpoch <= highest || p.PartitionEpoch <= was.PartitionEpoch || p.TopicID != was.TopicID || !slices.Contains(p.Replicas, p.Leader) || len(p.Replicas) < len(was.Replicas) {
				t.Errorf("%s: %+v, and epoch %d is on a disk", c.name, p, highest)
			}
		}
		if s := strings.Join(got, " "); s != c.want {
			t.Errorf("%s: %s, not %s", c.name, s, c.want)
		}
	}
}

func TestRestoreRefuses(t *testing.T) {
	image := beforeLoss(t, "1")
	for _, c := range []struct {
		want    string
		founder NodeID
		surveys []Survey
	}{
		{"twice", 1, []Survey{{Node: 1}, {Node: 1}}},
		{"was not surveyed", 2, []Survey{{Node: 1}}},
		{"there are not enough left", 1, []Survey{{Node: 1, Logs: []LogEnd{logOf("t", 0, 1, 1<<31-1, 1)}}}},
	} {
		if _, err := Restore(image, 100, "r", c.founder, c.surveys); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, not %q", err, c.want)
		}
	}
	r, err := Restore(image, 100, "r", 1, []Survey{{Node: 1, Logs: []LogEnd{logOf("new", 0, 1, 1, 1), logOf("t", 5, 1, 1, 1)}}})
	if err != nil || len(r.Unknown) != 2 {
		t.Errorf("%v: logs that the metadata does not know: %+v", err, r.Unknown)
	}
	image, _ = Apply(image, 50, &FenceNode{ID: 3, Epoch: image.Nodes[3].Epoch})
	image.RemovedNodes = []NodeID{4}
	if _, err := Restore(image, 100, "r", 4, nil); err == nil || !strings.Contains(err.Error(), "removed") {
		t.Error(err)
	}
}
