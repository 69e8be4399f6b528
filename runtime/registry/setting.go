package registry

import (
	"slices"
	"strings"

	"github.com/forebayhub/forebay/runtime/hublog"
)

// configRequest is the body of PUT /config, and its answer. Members that this registry has no use for are refused, not forgotten.
type configRequest struct {
	Normalize *bool   `json:"normalize,omitempty"`
	Level     *string `json:"compatibility,omitempty"`
}

// setConfig decides on PUT /config/{subject}; "" is the global one. What the request leaves out stays.
func (s *state) setConfig(subject string, q configRequest) (configRequest, []hublog.KeyValue, error) {
	v := s.configs[subject]
	v.Subject = subject
	if q.Level != nil {
		level := strings.ToUpper(*q.Level)
		if !slices.Contains(levels, level) {
			return q, nil, fail(codeInvalidLevel, "Invalid compatibility level. Valid values are none, backward, forward, full, "+
				"backward_transitive, forward_transitive, and full_transitive")
		}
		v.Level = level
	}
	if q.Normalize != nil {
		v.Normalize = q.Normalize
	}
	if isReadOnly(s.mode(subject)) {
		return q, nil, readOnly(subject)
	}
	out := configRequest{Normalize: v.Normalize}
	if v.Level != "" {
		out.Level = &v.Level
	}
	r, err := record(key{Type: keyConfig, Subject: subject}, v)
	return out, []hublog.KeyValue{r}, err
}

// config is GET /config/{subject}.
func (s *state) config(subject string, orGlobal bool) (configValue, error) {
	v, have := s.configs[subject]
	if !have && subject != "" && !orGlobal {
		return v, fail(codeNoLevel, "Subject '%s' does not have subject-level compatibility configured", subject)
	}
	out := configValue{Level: v.Level, Normalize: v.Normalize}
	if out.Level == "" {
		out.Level = s.level(subject)
	}
	if global := s.configs[""]; out.Normalize == nil && orGlobal {
		out.Normalize = global.Normalize
	}
	return out, nil
}

// deleteConfig decides on DELETE /config/{subject}; it answers with what was there.
func (s *state) deleteConfig(subject string) (configValue, []hublog.KeyValue, error) {
	v, have := s.configs[subject]
	if !have && subject != "" {
		return v, nil, subjectNotFound(subject)
	}
	out, err := s.config(subject, false)
	if err != nil {
		return out, nil, err
	}
	if isReadOnly(s.mode(subject)) {
		return out, nil, readOnly(subject)
	}
	if !have {
		return out, nil, nil
	}
	r, err := record(key{Type: keyConfig, Subject: subject}, nil)
	return out, []hublog.KeyValue{r}, err
}

// modeBody is the body of /mode, both ways.
type modeBody struct {
	Mode string `json:"mode"`
}

// setMode decides on PUT /mode/{subject}. IMPORT needs a place without schemas, unless forced: their ids could not be told from those that are imported.
func (s *state) setMode(subject string, q modeBody, force bool) ([]hublog.KeyValue, error) {
	mode := strings.ToUpper(q.Mode)
	if !slices.Contains(modes, mode) {
		return nil, fail(codeInvalidMode, "Invalid mode. Valid values are READWRITE, READONLY, and IMPORT")
	}
	var records []hublog.KeyValue
	if mode == importing && s.mode(subject) != importing && !force {
		names := s.names("", func(*schemaValue) bool { return true })
		if subject != "" {
			names = slices.DeleteFunc(names, func(n string) bool { return n != subject })
		}
		for _, name := range names {
			if len(s.versions(name, false)) > 0 {
				return nil, fail(codeNotPermitted, "Cannot import since found existing subjects")
			}
			var left []int // of soft-deleted ones
			for _, v := range s.subjects[name] {
				if len(s.referrers(name, v.Version, true)) > 0 {
					return nil, referenced(name, v.Version)
				}
				left = append(left, v.Version)
			}
			gone, err := s.purge(name, left, false)
			if err != nil {
				return nil, err
			}
			records = append(records, gone...)
		}
	}
	r, err := record(key{Type: keyMode, Subject: subject}, modeValue{Subject: subject, Mode: mode})
	return append(records, r), err
}

// modeOf is GET /mode/{subject}.
func (s *state) modeOf(subject string, orGlobal bool) (modeBody, error) {
	if _, have := s.modes[subject]; !have && subject != "" && !orGlobal {
		return modeBody{}, fail(codeNoMode, "Subject '%s' does not have subject-level mode configured", subject)
	}
	return modeBody{Mode: s.mode(subject)}, nil
}

// deleteMode decides on DELETE /mode/{subject}; it answers with what was there.
func (s *state) deleteMode(subject string) (modeBody, []hublog.KeyValue, error) {
	mode, have := s.modes[subject]
	if !have {
		if subject != "" {
			return modeBody{}, nil, subjectNotFound(subject)
		}
		return modeBody{Mode: readWrite}, nil, nil
	}
	r, err := record(key{Type: keyMode, Subject: subject}, nil)
	return modeBody{Mode: mode}, []hublog.KeyValue{r}, err
}
