package auth

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

// talk has franz-go's client and our server speak to each other.
func talk(t *testing.T, client sasl.Mechanism, server Exchange) (user string, err error) {
	t.Helper()
	session, said, err := client.Authenticate(context.Background(), "host:1")
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		told, who, err := server.Step(said)
		if err != nil {
			return "", err
		}
		if who != "" {
			user = who
		}
		done, next, err := session.Challenge(told)
		if err != nil {
			t.Fatalf("the client does not believe the server: %v", err)
		}
		if done {
			return user, nil
		}
		said = next
	}
	t.Fatal("no end")
	return "", nil
}

func credentials(t testing.TB, mechanism string, passwords map[string]string) func(string) (Credential, bool) {
	m := map[string]Credential{}
	for user, password := range passwords {
		salt := []byte("salt of " + user)
		salted, err := SaltPassword(mechanism, password, salt, MinIterations)
		if err != nil {
			t.Fatal(err)
		}
		m[user] = NewCredential(mechanism, salt, salted, MinIterations)
	}
	return func(user string) (Credential, bool) { c, ok := m[user]; return c, ok }
}

func TestScram(t *testing.T) {
	clients := map[string]func(scram.Auth) sasl.Mechanism{ScramSHA256: scram.Auth.AsSha256Mechanism, ScramSHA512: scram.Auth.AsSha512Mechanism}
	for mechanism, client := range clients {
		lookup := credentials(t, mechanism, map[string]string{"alice": "secret", "a,b=c": "pencil"})
		for _, c := range []struct{ user, password, want string }{
			{"alice", "secret", "alice"}, {"a,b=c", "pencil", "a,b=c"}, {"alice", "wrong", ""}, {"bob", "secret", ""},
		} {
			got, err := talk(t, client(scram.Auth{User: c.user, Pass: c.password}), NewScram(mechanism, lookup))
			if got != c.want || (c.want == "") != errors.Is(err, ErrCredentials) {
				t.Errorf("%s %s/%s: %q %v", mechanism, c.user, c.password, got, err)
			}
		}
	}
}

// A stranger learns a salt for a name that nobody has, the same each time: so he does not learn who is there.
func TestScramDoesNotTellWhoIsThere(t *testing.T) {
	lookup := credentials(t, ScramSHA256, map[string]string{"alice": "secret"})
	salt := func(user string) string {
		told, _, err := NewScram(ScramSHA256, lookup).Step([]byte("n,,n=" + user + ",r=abc"))
		if err != nil {
			t.Fatal(err)
		}
		return strings.Split(string(told), ",")[1]
	}
	if a, b := salt("bob"), salt("bob"); a != b || a == salt("carol") {
		t.Errorf("%q %q", a, b)
	}
}

func TestScramRefusesWhatIsMalformed(t *testing.T) {
	lookup := credentials(t, ScramSHA256, map[string]string{"alice": "secret"})
	for _, first := range []string{"", "n", "n,", "n,,", "n,,n=alice", "n,,n=alice,r=", "n,,n=,r=x", "p=tls-unique,,n=alice,r=x", "n,a=bob,n=alice,r=x", "n,,n=al=ice,r=x", "n,,r=x,n=alice"} {
		if _, _, err := NewScram(ScramSHA256, lookup).Step([]byte(first)); err == nil {
			t.Errorf("%q was taken", first)
		}
	}
	for _, last := range []string{"", "c=biws,r=%s", "c=biws,r=%s,p=!", "c=biws,r=x%s,p=YQ==", "c=eSws,r=%s,p=YQ==", "c=biws,r=%s,p="} {
		s := NewScram(ScramSHA256, lookup)
		told, _, err := s.Step([]byte("n,,n=alice,r=abc"))
		if err != nil {
			t.Fatal(err)
		}
		nonce := strings.TrimPrefix(strings.Split(string(told), ",")[0], "r=")
		if strings.Contains(last, "%s") {
			last = fmt.Sprintf(last, nonce)
		}
		if _, user, err := s.Step([]byte(last)); err == nil || user != "" {
			t.Errorf("%q was taken", last)
		}
	}
}

func TestPlain(t *testing.T) {
	users := map[string]string{"alice": "secret", "empty": ""}
	if got, err := talk(t, plain.Auth{User: "alice", Pass: "secret"}.AsMechanism(), NewPlain(users)); got != "alice" || err != nil {
		t.Error(got, err)
	}
	for said, want := range map[string]string{
		"alice\x00alice\x00secret": "alice", "\x00alice\x00wrong": "", "\x00bob\x00secret": "", "bob\x00alice\x00secret": "",
		"\x00empty\x00": "", "\x00nobody\x00": "", "\x00\x00secret": "", "alice": "", "\x00alice": "", "\x00alice\x00secret\x00": "",
	} {
		_, got, err := NewPlain(users).Step([]byte(said))
		var r *Refusal
		if got != want || (want == "") != errors.As(err, &r) {
			t.Errorf("%q: %q %v", said, got, err)
		}
	}
}

func TestCredentialsPrintAsStars(t *testing.T) {
	c := NewCredential(ScramSHA256, []byte("salt"), []byte("salted"), 4096)
	if s := fmt.Sprintf("%v %+v %#v %s", c, c, c, c); s != "*** *** *** ***" {
		t.Error(s)
	}
}

func FuzzScram(f *testing.F) {
	f.Add("n,,n=alice,r=abc", "c=biws,r=%s,p=YQ==")
	f.Add("y,a=alice,n=alice,r=abc,x=y", "c=eSxhPWFsaWNlLA==,r=%s,p=YQ==")
	lookup := credentials(f, ScramSHA256, map[string]string{"alice": "secret"})
	f.Fuzz(func(t *testing.T, first, last string) {
		s := NewScram(ScramSHA256, lookup)
		told, user, err := s.Step([]byte(first))
		if user != "" {
			t.Fatal("a user without a proof")
		}
		if err != nil {
			return
		}
		nonce := strings.TrimPrefix(strings.Split(string(told), ",")[0], "r=")
		told, user, err = s.Step([]byte(strings.ReplaceAll(last, "%s", nonce)))
		if err == nil || user != "" || told != nil {
			t.Fatalf("%q is a proof", last)
		}
	})
}

func FuzzPlain(f *testing.F) {
	f.Add([]byte("\x00alice\x00secre"))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, user, err := NewPlain(map[string]string{"alice": "secret"}).Step(b)
		if (user != "") == (err != nil) || user != "" && user != "alice" {
			t.Fatal(user, err)
		}
	})
}
