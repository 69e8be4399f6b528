package registry

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/forebayhub/forebay/runtime/hublog"
)

// Topic is where schemas are: Kafka's name for it among users of Confluent's registry (kafkastore.topic).
const Topic = "_schemas"

// The kinds of keys in Topic, as in Confluent's SchemaRegistryKeyType.
const (
	keySchema        = "SCHEMA"
	keyConfig        = "CONFIG"
	keyMode          = "MODE"
	keyDeleteSubject = "DELETE_SUBJECT"
	keyClearSubject  = "CLEAR_SUBJECT"
	keyNoop          = "NOOP"
)

// key is a record's key. The order of its members is Confluent's: compaction compares bytes.
type key struct {
	Type    string `json:"keytype"`
	Subject string `json:"subject,omitempty"`
	Version int    `json:"version,omitempty"`
	Magic   int    `json:"magic"`
}

// Reference is a schema that another one uses by a name.
type Reference struct {
	Name    string `json:"name"`
	Subject string `json:"subject"`
	Version int    `json:"version"`
}

// content is a schema as it is written wherever one is: in records, requests and answers.
type content struct {
	Type       string          `json:"schemaType,omitempty"` // "": AVRO
	References []Reference     `json:"references,omitempty"`
	Metadata   json.RawMessage `json:"metadata,omitempty"`
	RuleSet    json.RawMessage `json:"ruleSet,omitempty"`
	Schema     string          `json:"schema"`
}

// schemaValue is the value of a SCHEMA record, and one version of a subject.
type schemaValue struct {
	Subject string `json:"subject"`
	Version int    `json:"version"`
	ID      int    `json:"id"`
	MD5     string `json:"md5,omitempty"`
	content
	Deleted bool `json:"deleted"`
}

// configValue is the value of a CONFIG record. Of what Confluent has there we use these.
type configValue struct {
	Subject   string `json:"subject,omitempty"`
	Normalize *bool  `json:"normalize,omitempty"`
	Level     string `json:"compatibilityLevel,omitempty"`
}

type modeValue struct {
	Subject string `json:"subject,omitempty"`
	Mode    string `json:"mode"`
}

// deleteValue is the value of a DELETE_SUBJECT record: every version up to this one is soft-deleted.
type deleteValue struct {
	Subject string `json:"subject"`
	Version int    `json:"version"`
}

// keyHighest is the key of a record that is ours alone: the highest id, written down where schemas are deleted for good. To compaction it is another key than that of
// Confluent's NOOP records, to Confluent's registry it is one of those, whose values it does not look at.
const keyHighest = `{"magic":0,"keytype":"NOOP"}`

type highestValue struct {
	ID int `json:"highestId"`
}

// record makes one; a nil value is a tombstone.
func record(k key, value any) (hublog.KeyValue, error) {
	var out hublog.KeyValue
	var err error
	if out.Key, err = marshal(k); err != nil || value == nil {
		return out, err
	}
	out.Value, err = marshal(value)
	return out, err
}

// marshal is JSON as Jackson writes it: <, > and & as they are, and no line end.
func marshal(v any) ([]byte, error) {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return []byte(strings.TrimSuffix(b.String(), "\n")), nil
}

func schemaKey(subject string, version int) key {
	return key{Type: keySchema, Subject: subject, Version: version, Magic: 1}
}

func schemaRecord(v *schemaValue) (hublog.KeyValue, error) {
	return record(schemaKey(v.Subject, v.Version), v)
}

var errMagic = errors.New("a magic byte that this registry does not know")

// parseKey reads a key; nil for a kind that this registry has no use for, and for subjects of contexts other than the default one.
func parseKey(b []byte) (*key, error) {
	var k key
	if err := json.Unmarshal(b, &k); err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	switch k.Type {
	case keySchema:
		if k.Magic != 0 && k.Magic != 1 {
			return nil, errMagic
		}
	case keyConfig, keyMode, keyDeleteSubject, keyClearSubject, keyNoop:
	default:
		return nil, nil
	}
	if foreign(k.Subject) {
		return nil, nil
	}
	return &k, nil
}

// foreign says that a subject is in a context: Confluent writes those as :.context:subject.
func foreign(subject string) bool { return strings.HasPrefix(subject, ":.") }
