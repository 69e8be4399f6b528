package metadata

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
)

// ClientQuotas are the quotas that are set. Nil in an Image without any, so that who serves requests finds out by one comparison.
// A change makes a new one.
type ClientQuotas struct {
	entities map[QuotaEntity]map[string]float64
}

// QuotaEntity is whose quota: a user, a client id, both (KIP-55), or an address (KIP-612).
type QuotaEntity struct{ User, ClientID, IP QuotaName }

// QuotaName is one part of an entity.
type QuotaName struct {
	Given bool
	Name  string // "" is the default for those that have no quota of their own
}

// QuotaChange sets or removes one quota, by Kafka's name of it: producer_byte_rate.
type QuotaChange struct {
	Entity QuotaEntity
	Key    string
	Value  float64
	Remove bool
}

// AlterQuotas makes the changes, all or none.
type AlterQuotas struct{ Changes []QuotaChange }

// QuotaLimit is the quota that a client is under.
type QuotaLimit struct {
	Bound float64
	// User and ClientID tell whose use is summed up against Bound: all connections of a user where the quota is a user's ("" for
	// ClientID), of a client id where it is a client id's.
	User, ClientID string
}

// Of gives an entity's quotas; not to be changed.
func (q *ClientQuotas) Of(e QuotaEntity) map[string]float64 {
	if q == nil {
		return nil
	}
	return q.entities[e]
}

// Entities lists who has quotas, in a fixed order.
func (q *ClientQuotas) Entities() []QuotaEntity {
	if q == nil {
		return nil
	}
	return slices.SortedFunc(maps.Keys(q.entities), QuotaEntity.compare)
}

func (e QuotaEntity) compare(o QuotaEntity) int {
	return cmp.Or(e.User.compare(o.User), e.ClientID.compare(o.ClientID), e.IP.compare(o.IP))
}

func (n QuotaName) compare(o QuotaName) int {
	switch {
	case n.Given == o.Given:
		return cmp.Compare(n.Name, o.Name)
	case n.Given:
		return 1
	}
	return -1
}

// Limit finds the quota under which a user's request with a client id falls, in Kafka's order
// (ClientQuotaManager): the user's before the default user's, within them the client id's before the default client id's
// before the user's alone; a client id's own last.
func (q *ClientQuotas) Limit(key, user, clientID string) (QuotaLimit, bool) {
	if q == nil {
		return QuotaLimit{}, false
	}
	client, anyClient := QuotaName{Given: true, Name: clientID}, QuotaName{Given: true}
	for _, u := range [...]string{user, ""} {
		name := QuotaName{Given: true, Name: u}
		for _, c := range [...]QuotaName{client, anyClient} {
			if v, ok := q.entities[QuotaEntity{User: name, ClientID: c}][key]; ok {
				return QuotaLimit{v, user, clientID}, true
			}
		}
		if v, ok := q.entities[QuotaEntity{User: name}][key]; ok {
			return QuotaLimit{v, user, ""}, true
		}
	}
	for _, c := range [...]QuotaName{client, anyClient} {
		if v, ok := q.entities[QuotaEntity{ClientID: c}][key]; ok {
			return QuotaLimit{v, "", clientID}, true
		}
	}
	return QuotaLimit{}, false
}

// AddressLimit finds the quota of an address.
func (q *ClientQuotas) AddressLimit(key, ip string) (bound float64, ok bool) {
	if q == nil {
		return 0, false
	}
	for _, name := range [...]string{ip, ""} {
		if bound, ok = q.entities[QuotaEntity{IP: QuotaName{Given: true, Name: name}}][key]; ok {
			return bound, true
		}
	}
	return 0, false
}

func (i *Image) alterQuotas(c *AlterQuotas) error {
	next := map[QuotaEntity]map[string]float64{}
	if i.Quotas != nil {
		maps.Copy(next, i.Quotas.entities)
	}
	for _, change := range c.Changes {
		if change.Key == "" || change.Entity == (QuotaEntity{}) {
			return fmt.Errorf("%w: a quota without a name or an entity", ErrInvalidCommand)
		}
		if !change.Remove && (math.IsNaN(change.Value) || change.Value <= 0) {
			return fmt.Errorf("%w: quota %s of %v", ErrInvalidCommand, change.Key, change.Value)
		}
		one := maps.Clone(next[change.Entity])
		if one == nil {
			one = map[string]float64{}
		}
		if change.Remove {
			delete(one, change.Key)
		} else {
			one[change.Key] = change.Value
		}
		if next[change.Entity] = one; len(one) == 0 {
			delete(next, change.Entity)
		}
	}
	i.Quotas = nil
	if len(next) > 0 {
		i.Quotas = &ClientQuotas{next}
	}
	return nil
}

func (*AlterQuotas) kind() byte { return kindAlterQuotas }

func (c *AlterQuotas) encode(e *encoder) {
	encodeList(e, c.Changes, func(q QuotaChange) {
		e.entity(q.Entity)
		e.string(q.Key)
		e.float(q.Value)
		e.bool(q.Remove)
	})
}

func (c *AlterQuotas) decode(d *decoder) {
	c.Changes = decodeList(d, func() QuotaChange {
		return QuotaChange{Entity: d.entity(), Key: d.string(), Value: d.float(), Remove: d.bool()}
	})
}

func (e *encoder) entity(q QuotaEntity) {
	for _, n := range []QuotaName{q.User, q.ClientID, q.IP} {
		e.bool(n.Given)
		e.string(n.Name)
	}
}

func (d *decoder) entity() (q QuotaEntity) {
	for _, n := range []*QuotaName{&q.User, &q.ClientID, &q.IP} {
		n.Given, n.Name = d.bool(), d.string()
	}
	return q
}

func (e *encoder) quotas(q *ClientQuotas) {
	encodeList(e, q.Entities(), func(entity QuotaEntity) {
		e.entity(entity)
		of := q.Of(entity)
		encodeList(e, slices.Sorted(maps.Keys(of)), func(key string) { e.string(key); e.float(of[key]) })
	})
}

func (d *decoder) quotas() *ClientQuotas {
	q := &ClientQuotas{map[QuotaEntity]map[string]float64{}}
	for n := d.count(); n > 0 && d.err == nil; n-- {
		of := map[string]float64{}
		q.entities[d.entity()] = of
		for k := d.count(); k > 0 && d.err == nil; k-- {
			key := d.string()
			of[key] = d.float()
		}
	}
	if len(q.entities) == 0 {
		return nil
	}
	return q
}
