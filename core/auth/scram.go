package auth

import (
	"bytes"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"strings"
)

// MinIterations and MaxIterations bound what a SCRAM credential may cost (Kafka's ScramMechanism and ScramControlManager).
const (
	MinIterations = 4096
	MaxIterations = 16384
)

// Credential is what a server keeps of a password (RFC 5802): enough to check a proof, not enough to make one.
// It prints as stars.
type Credential struct {
	Salt, StoredKey, ServerKey []byte
	Iterations                 int
}

func (Credential) String() string   { return "***" }
func (Credential) GoString() string { return "***" }

// scramHash is the hash of a SCRAM mechanism; nil for any other.
func scramHash(mechanism string) func() hash.Hash {
	switch mechanism {
	case ScramSHA256:
		return sha256.New
	case ScramSHA512:
		return sha512.New
	}
	return nil
}

// NewCredential makes a credential of a salted password, which is what clients send (KIP-554).
func NewCredential(mechanism string, salt, salted []byte, iterations int) Credential {
	h := scramHash(mechanism)
	stored := h()
	stored.Write(mac(h, salted, []byte("Client Key")))
	return Credential{Salt: salt, StoredKey: stored.Sum(nil), ServerKey: mac(h, salted, []byte("Server Key")), Iterations: iterations}
}

// SaltPassword is RFC 5802's Hi.
func SaltPassword(mechanism, password string, salt []byte, iterations int) ([]byte, error) {
	h := scramHash(mechanism)
	return pbkdf2.Key(h, password, salt, iterations, h().Size())
}

func mac(h func() hash.Hash, key, text []byte) []byte {
	m := hmac.New(h, key)
	m.Write(text)
	return m.Sum(nil)
}

// scramExchange is the server's side of RFC 5802 without channel binding, as Kafka has it.
type scramExchange struct {
	hash       func() hash.Hash
	lookup     func(user string) (Credential, bool)
	user       string
	credential Credential
	known      bool
	gs2, first []byte // of the client: header, and message without it
	server     []byte // our first message
	nonce      string
	step       int
}

// NewScram begins an exchange of SCRAM-SHA-256 or SCRAM-SHA-512.
func NewScram(mechanism string, lookup func(user string) (Credential, bool)) Exchange {
	return &scramExchange{hash: scramHash(mechanism), lookup: lookup}
}

// strangers salts the names that nobody has, so that a stranger sees the same salt for a name each time,
// as for one that exists.
var strangers = rand.Text()

var errScram = errors.New("malformed SCRAM message")

func (s *scramExchange) Step(said []byte) ([]byte, string, error) {
	s.step++
	switch s.step {
	case 1:
		told, err := s.begin(said)
		return told, "", err
	case 2:
		told, err := s.finish(said)
		if err != nil {
			return nil, "", err
		}
		return told, s.user, nil
	}
	return nil, "", fmt.Errorf("%w: one too many", errScram)
}

// begin answers n,[a=authzid],n=user,r=nonce[,extensions].
func (s *scramExchange) begin(said []byte) ([]byte, error) {
	binding, rest, ok1 := bytes.Cut(said, []byte{','})
	as, first, ok2 := bytes.Cut(rest, []byte{','})
	if !ok1 || !ok2 || string(binding) != "n" && string(binding) != "y" {
		return nil, fmt.Errorf("%w: no header, or one that asks for channel binding", errScram)
	}
	s.gs2, s.first = bytes.Clone(said[:len(said)-len(first)]), bytes.Clone(first)
	fields := strings.Split(string(first), ",")
	if len(fields) < 2 {
		return nil, fmt.Errorf("%w: no name or no nonce", errScram)
	}
	name, ok1 := strings.CutPrefix(fields[0], "n=")
	nonce, ok2 := strings.CutPrefix(fields[1], "r=")
	user, ok3 := saslName(name)
	if !ok1 || !ok2 || !ok3 || user == "" || nonce == "" {
		return nil, fmt.Errorf("%w: no name or no nonce", errScram)
	}
	if len(as) > 0 {
		asked, ok := bytes.CutPrefix(as, []byte("a="))
		other, fine := saslName(string(asked))
		if !ok || !fine || other != user {
			return nil, &Refusal{"Authentication failed: Client requested an authorization id that is different from username"}
		}
	}
	s.user = user
	if s.credential, s.known = s.lookup(user); !s.known {
		s.credential = Credential{Salt: mac(s.hash, []byte(strangers), []byte(user))[:24], Iterations: MinIterations}
	}
	s.nonce = nonce + rand.Text()
	s.server = fmt.Appendf(nil, "r=%s,s=%s,i=%d", s.nonce, base64.StdEncoding.EncodeToString(s.credential.Salt), s.credential.Iterations)
	return s.server, nil
}

// finish checks c=channel binding,r=nonce[,extensions],p=proof.
func (s *scramExchange) finish(said []byte) ([]byte, error) {
	at := bytes.LastIndex(said, []byte(",p="))
	if at < 0 {
		return nil, fmt.Errorf("%w: no proof", errScram)
	}
	bare := said[:at]
	proof, err := base64.StdEncoding.DecodeString(string(said[at+3:]))
	if err != nil {
		return nil, fmt.Errorf("%w: the proof is no base64", errScram)
	}
	fields := strings.Split(string(bare), ",")
	if len(fields) < 2 || fields[0] != "c="+base64.StdEncoding.EncodeToString(s.gs2) || fields[1] != "r="+s.nonce {
		return nil, fmt.Errorf("%w: another nonce or channel than before", errScram)
	}
	text := bytes.Join([][]byte{s.first, s.server, bare}, []byte{','})
	signature := mac(s.hash, s.credential.StoredKey, text)
	if len(proof) != len(signature) {
		return nil, ErrCredentials
	}
	subtle.XORBytes(proof, proof, signature) // the client's key, if it is who it says
	stored := s.hash()
	stored.Write(proof)
	if subtle.ConstantTimeCompare(stored.Sum(nil), s.credential.StoredKey) != 1 || !s.known {
		return nil, ErrCredentials
	}
	return append([]byte("v="), base64.StdEncoding.EncodeToString(mac(s.hash, s.credential.ServerKey, text))...), nil
}

// saslName undoes =2C and =3D (RFC 5802, section 5.1).
func saslName(s string) (string, bool) {
	out := strings.NewReplacer("=2C", ",", "=3D", "=").Replace(s)
	return out, strings.Count(s, "=") == strings.Count(s, "=2C")+strings.Count(s, "=3D")
}

// ScramType is KIP-554's number of a mechanism; 0: unknown.
func ScramType(mechanism string) int8 {
	switch mechanism {
	case ScramSHA256:
		return 1
	case ScramSHA512:
		return 2
	}
	return 0
}

// ScramMechanism is the mechanism of KIP-554's number; "": there is none.
func ScramMechanism(typ int8) string {
	switch typ {
	case 1:
		return ScramSHA256
	case 2:
		return ScramSHA512
	}
	return ""
}
