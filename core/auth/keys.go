package auth

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"errors"
	"fmt"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/json"
)

// Keys are the public keys of who signs tokens (RFC 7517). They are not changed.
type Keys []key

type key struct {
	id, algorithm string // "": any
	public        any
}

const (
	maxKeys    = 256  // of a set
	minRSABits = 2048 // RFC 7518, 3.3; jose4j, which Kafka uses, takes none with less
)

// ParseKeys reads a set. What cannot check a signature is passed over (RFC 7517, 5), as are keys that are too weak; of a private key the public half is kept. A set with nothing left is an error.
func ParseKeys(text []byte) (Keys, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(text, &set); err != nil {
		return nil, errors.New("it is no set of keys in JSON")
	}
	if len(set.Keys) > maxKeys {
		return nil, fmt.Errorf("it has %d keys, and %d is the most", len(set.Keys), maxKeys)
	}
	var keys Keys
	for _, text := range set.Keys {
		var k jose.JSONWebKey
		if err := json.Unmarshal(text, &k); err != nil || k.Use != "" && k.Use != "sig" || !k.Valid() {
			continue
		}
		public := k.Public()
		if r, ok := public.Key.(*rsa.PublicKey); ok && r.N.BitLen() < minRSABits {
			continue
		}
		for _, a := range algorithms {
			if signs(a, public.Key) {
				keys = append(keys, key{id: k.KeyID, algorithm: k.Algorithm, public: public.Key})
				break
			}
		}
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("there is no key in it by which a token can be checked: RSA of %d bits or more, EC of P-256, P-384 or P-521, or Ed25519", minRSABits)
	}
	return keys, nil
}

// Has says whether there is a key of an id: its own, or one that has none. Every set has one of "".
func (k Keys) Has(id string) bool {
	for _, key := range k {
		if key.named(id) {
			return true
		}
	}
	return false
}

func (k key) named(id string) bool { return id == "" || k.id == "" || k.id == id }

// algorithms are those that a token may be signed by: none of them by a secret.
var algorithms = []jose.SignatureAlgorithm{
	jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512, jose.ES256, jose.ES384, jose.ES512, jose.EdDSA,
}

// signs says whether a public key is of the kind that an algorithm has (RFC 7518, 3.1; RFC 8037).
func signs(a jose.SignatureAlgorithm, public any) bool {
	switch p := public.(type) {
	case *rsa.PublicKey:
		return a[:2] == "RS" || a[:2] == "PS"
	case *ecdsa.PublicKey:
		curve := map[jose.SignatureAlgorithm]string{jose.ES256: "P-256", jose.ES384: "P-384", jose.ES512: "P-521"}[a]
		return curve == p.Params().Name
	case ed25519.PublicKey:
		return a == jose.EdDSA
	}
	return false
}
