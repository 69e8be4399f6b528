package metadata

import (
	"bytes"
	"testing"
)

// Kafka's order of precedence (ClientQuotaManager), and whose use is summed up under each. Each step takes the most
// specific quota away.
func TestQuotaPrecedence(t *testing.T) {
	name := func(s string) QuotaName { return QuotaName{true, s} }
	steps := []struct {
		entity QuotaEntity
		want   QuotaLimit
	}{
		{QuotaEntity{User: name("u"), ClientID: name("c")}, QuotaLimit{1, "u", "c"}},
		{QuotaEntity{User: name("u"), ClientID: name("")}, QuotaLimit{2, "u", "c"}},
		{QuotaEntity{User: name("u")}, QuotaLimit{3, "u", ""}},
		{QuotaEntity{User: name(""), ClientID: name("c")}, QuotaLimit{4, "u", "c"}},
		{QuotaEntity{User: name(""), ClientID: name("")}, QuotaLimit{5, "u", "c"}},
		{QuotaEntity{User: name("")}, QuotaLimit{6, "u", ""}},
		{QuotaEntity{ClientID: name("c")}, QuotaLimit{7, "", "c"}},
		{QuotaEntity{ClientID: name("")}, QuotaLimit{8, "", "c"}},
	}
	const key = "producer_byte_rate"
	image := NewImage()
	alter := func(c QuotaChange) {
		t.Helper()
		var r Result
		if image, r = Apply(image, image.Index+1, &AlterQuotas{Changes: []QuotaChange{c}}); r.Err != nil {
			t.Fatal(r.Err)
		}
	}
	for n, s := range steps {
		alter(QuotaChange{Entity: s.entity, Key: key, Value: float64(n + 1)})
		// A more specific entity that has only another quota hides nothing.
		alter(QuotaChange{Entity: s.entity, Key: "request_percentage", Value: 1})
	}
	for _, s := range steps {
		if got, ok := image.Quotas.Limit(key, "u", "c"); !ok || got != s.want {
			t.Errorf("with %+v the limit is %+v %v, want %+v", s.entity, got, ok, s.want)
		}
		alter(QuotaChange{Entity: s.entity, Key: key, Remove: true})
	}
	if got, ok := image.Quotas.Limit(key, "u", "c"); ok {
		t.Errorf("without a quota the limit is %+v", got)
	}
	for _, s := range steps {
		alter(QuotaChange{Entity: s.entity, Key: "request_percentage", Remove: true})
	}
	if image.Quotas != nil {
		t.Errorf("nothing is set, and there is %+v", image.Quotas)
	}
}

// An image of before there were quotas is read on.
func TestImageVersion1(t *testing.T) {
	image, _ := Apply(NewImage(), 1, &RegisterNode{ID: 1, Host: "h", Port: 9092})
	b := EncodeImage(image)
	b[len(imageMagic)] = 1
	old, err := DecodeImage(b[:len(b)-19]) // an empty list of quotas is one byte; version 3 has five more for one node, versions 4 to 6 one each, version 7 three, version 8 two, version 9 one, version 10 one, version 11 three
	if err != nil || !bytes.Equal(EncodeImage(old), EncodeImage(image)) {
		t.Errorf("%+v, %v", old, err)
	}
}
