package membership

import (
	"bytes"
	"crypto/aes"
	"slices"
	"testing"
)

func key(b byte) []byte { return bytes.Repeat([]byte{b}, 2*aes.BlockSize) }

// keyed is open with keys.
func keyed(t *testing.T, id int32, keys [][]byte, seeds ...string) *List {
	t.Helper()
	return run(t, Options{Self: Member{ID: id, Peer: "127.0.0.1:1"}, Bind: "127.0.0.1:0", Seeds: seeds, Keys: keys})
}

func sees(l *List, ids ...int32) bool {
	var got []int32
	for _, m := range l.Members() {
		got = append(got, m.ID)
	}
	return slices.Equal(got, ids)
}

// Who has none of the keys is not heard; who has one of them is, and each of the steps of a rotation leaves everybody heard.
func TestKeys(t *testing.T) {
	a := keyed(t, 1, [][]byte{key(1)})
	b := keyed(t, 2, [][]byte{key(2), key(1)}, a.Addr()) // what it says nobody understands yet
	plain := keyed(t, 3, nil, a.Addr())
	other := keyed(t, 4, [][]byte{key(3)}, a.Addr())
	joined := func() bool { _, err := b.list.Join([]string{a.Addr()}); return err == nil }
	if joined() {
		t.Error("a message in an unknown key was understood")
	}
	for _, l := range []*List{plain, other} {
		if _, err := l.list.Join([]string{a.Addr()}); err == nil {
			t.Error("one without the key came in")
		}
	}
	if !sees(a, 1) {
		t.Errorf("%v", a.Members())
	}
	if err := plain.SetKeys([][]byte{key(1)}); err == nil {
		t.Error("gossip that was plain is encrypted now, and the others do not know")
	}
	for _, step := range [][2][][]byte{
		{{key(1), key(2)}, {key(2), key(1)}},         // the new one decrypts everywhere
		{{key(2), key(1)}, {key(2), key(1)}},         // and encrypts
		{{key(2)}, {key(2)}},                         // and the old one is gone
		{{key(2), key(4), key(5)}, {key(5), key(2)}}, // several at once, in any order
		{{key(5)}, {key(5), key(1)}},
	} {
		for i, l := range []*List{a, b} {
			if err := l.SetKeys(step[i]); err != nil {
				t.Fatal(err)
			}
			ring := l.ring.GetKeys()
			if !bytes.Equal(ring[0], step[i][0]) || len(ring) != len(step[i]) {
				t.Errorf("%d keys of %d, or another one first", len(ring), len(step[i]))
			}
		}
		if !joined() {
			t.Error("the two do not understand each other")
		}
	}
	eventually(t, "both heard", func() bool { return sees(a, 1, 2) && sees(b, 1, 2) })
}

// Keys change while gossip runs (for -race).
func TestKeysWhileGossiping(t *testing.T) {
	a := keyed(t, 1, [][]byte{key(1)})
	b := keyed(t, 2, [][]byte{key(1)}, a.Addr())
	eventually(t, "both heard", func() bool { return sees(a, 1, 2) && sees(b, 1, 2) })
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 50 {
			_, _ = b.list.Join([]string{a.Addr()}) // whether they understand each other is not looked at here
		}
	}()
	for i := 0; ; i++ {
		select {
		case <-done:
			return
		default:
		}
		for _, keys := range [][][]byte{{key(1), key(9), key(2)}, {key(1), key(2)}, {key(2), key(1), key(3)}, {key(1)}} {
			if err := a.SetKeys(keys); err != nil {
				t.Fatal(err)
			}
		}
	}
}
