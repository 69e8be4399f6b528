package metadata

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

// TestEveryKindHasALevel: who adds a kind of command has to say who knows it.
func TestEveryKindHasALevel(t *testing.T) {
	kind := byte(1)
	for ; newCommand(kind) != nil; kind++ {
		level, ok := kindLevels[kind]
		if !ok || level < 0 || level > Level {
			t.Errorf("%T has no level between 0 and %d", newCommand(kind), Level)
		}
		if got := newCommand(kind).kind(); got != kind {
			t.Errorf("kind %d makes a command of kind %d", kind, got)
		}
	}
	if int(kind) != len(kindLevels)+1 {
		t.Errorf("%d kinds, %d levels", kind-1, len(kindLevels))
	}
	if imageVersions[Level] != ImageVersion {
		t.Errorf("an image of level %d is written in version %d of %d", Level, imageVersions[Level], ImageVersion)
	}
}

// TestLevelFollowsTheNodes: it is the least of them, rises with the last, and keeps out who is behind.
func TestLevelFollowsTheNodes(t *testing.T) {
	image, index := NewImage(), uint64(0)
	apply := func(c Command) Result {
		t.Helper()
		index++
		next, r := Apply(image, index, c)
		back, err := DecodeImage(EncodeImage(next))
		if err != nil || !bytes.Equal(EncodeImage(back), EncodeImage(next)) {
			t.Fatalf("the image does not survive: %v", err)
		}
		image = next
		return r
	}
	for _, step := range []struct {
		node  NodeID
		knows int16
		level int16
		err   error
	}{
		{1, 0, 0, nil}, {2, 1, 0, nil}, {3, 1, 0, nil},
		{1, 1, 1, nil},      // the last one is upgraded
		{4, 0, 1, ErrLevel}, // from now on nobody who knows less comes in
		{2, 0, 1, ErrLevel}, // nor back
		{5, 9, 1, nil},      // and who knows more is welcome
	} {
		r := apply(&RegisterNode{ID: step.node, Level: step.knows})
		if !errors.Is(r.Err, step.err) || image.Level() != step.level {
			t.Errorf("node %d with level %d: %v, the cluster is at %d, want %v and %d", step.node, step.knows, r.Err, image.Level(), step.err, step.level)
		}
	}
	if image.Nodes[4] != nil || image.Nodes[2].Level != 1 {
		t.Error("who was refused is registered")
	}
	// Nobody else moves it.
	for _, level := range []int16{0, 2} {
		if r := apply(&SetFeatures{Levels: map[string]int16{LevelFeature: level}}); !errors.Is(r.Err, ErrInvalidCommand) || image.Level() != 1 {
			t.Errorf("level set to %d: %v, %d", level, r.Err, image.Level())
		}
	}
}

// TestAdmits: what is new is agreed to once everybody knows it, and the refusal says who does not.
func TestAdmits(t *testing.T) {
	old, _ := Apply(NewImage(), 1, &RegisterNode{ID: 1, Level: 1})
	mixed, _ := Apply(NewImage(), 1, &RegisterNode{ID: 1, Level: 1})
	mixed.Nodes[7] = &Node{ID: 7}
	mixed.Features = nil
	for kind, level := range kindLevels {
		c := newCommand(kind)
		if err := old.Admits(c); err != nil {
			t.Errorf("%T where all know it: %v", c, err)
		}
		err := mixed.Admits(c)
		if (err == nil) != (level == 0) {
			t.Errorf("%T of level %d where node 7 knows 0: %v", c, level, err)
		}
	}
	newer := &SetFeatures{Levels: map[string]int16{LevelFeature: 1}}
	err := mixed.Admits(newer)
	if !errors.Is(err, ErrLevel) || !strings.Contains(err.Error(), "needs metadata level 1 and the cluster is at 0; node 7 knows 0: start the newer version") {
		t.Errorf("%v", err)
	}
	if err := old.Admits(newer); err != nil {
		t.Error(err)
	}
	if err := old.Admits(&SetFeatures{Levels: map[string]int16{LevelFeature: 2}}); !errors.Is(err, ErrLevel) {
		t.Error(err)
	}
}

// TestImageOfAHigherLevelIsRefused although its bytes could be read: what its commands mean is not known here.
func TestImageOfAHigherLevelIsRefused(t *testing.T) {
	image, _ := Apply(NewImage(), 1, &RegisterNode{ID: 1, Level: 1})
	image.Features = map[string]int16{LevelFeature: Level + 1}
	if _, err := DecodeImage(EncodeImage(image)); !errors.Is(err, ErrVersion) {
		t.Errorf("%v", err)
	}
}
