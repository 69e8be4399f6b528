package metadata

import (
	"bytes"
	"testing"
)

// TestSinceWhenNodesAreAsTheyAre: by the times of the log's entries, in snapshots too.
func TestSinceWhenNodesAreAsTheyAre(t *testing.T) {
	image := NewImage()
	drain := func(v string) Command {
		return &AlterConfigs{Broker: true, Name: "1", Set: map[string]string{DrainConfig: v}}
	}
	for n, step := range []struct {
		c               Command
		since, draining int64
	}{
		{&RegisterNode{ID: 1, Level: 1}, 100, 0},
		{&RegisterNode{ID: 2, Level: 1}, 100, 0}, // another one
		{drain("true"), 100, 300},
		{drain("true"), 100, 300}, // asked for twice
		{&FenceNode{ID: 1, Epoch: 9}, 100, 300},
		{&FenceNode{ID: 1, Epoch: 1}, 600, 300},
		{&FenceNode{ID: 1, Epoch: 1}, 600, 300},
		{&RegisterNode{ID: 1, Level: 1}, 800, 300}, // its drain goes on
		{drain("false"), 800, 0},
	} {
		before := EncodeImage(image)
		next, _ := ApplyAt(image, uint64(n+1), int64(n+1)*100, step.c)
		if !bytes.Equal(before, EncodeImage(image)) {
			t.Fatalf("step %d changed the image that it came from", n)
		}
		back, err := DecodeImage(EncodeImage(next))
		if err != nil {
			t.Fatal(err)
		}
		if got := back.Nodes[1]; got.Since != step.since || got.DrainingSince != step.draining {
			t.Errorf("step %d: since %d, draining since %d; want %d and %d", n, got.Since, got.DrainingSince, step.since, step.draining)
		}
		image = next
	}
}
