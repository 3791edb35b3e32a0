// SPDX-License-Identifier: Apache-2.0

package api

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kjson "sigs.k8s.io/json"
)

// Decode reads manifests: YAML documents separated by "---", JSON values, and lists of objects
// (kind List, or IPPoolList and so on). It is strict: whatever korat does not know is an error that
// names the document, the object and the field. Only what controllers have said of an object, in its status and
// metadata, is left out. It gives all objects in their order, or every error joined. It neither defaults nor validates.
func Decode(data []byte) ([]Object, error) {
	docs, err := documents(data)
	if err != nil {
		return nil, err
	}
	d := &decoder{}
	for i, doc := range docs {
		d.value(fmt.Sprintf("document %d", i+1), doc, listTypes{})
	}
	if len(d.errs) > 0 {
		return nil, errors.Join(d.errs...)
	}
	return d.objs, nil
}

type decoder struct {
	objs []Object
	errs []error
}

func (d *decoder) fail(where, format string, args ...any) {
	d.errs = append(d.errs, fmt.Errorf("%s: %s", where, fmt.Sprintf(format, args...)))
}

// listTypes is what a typed list says of its items.
type listTypes struct {
	in               bool
	apiVersion, kind string
}

// header is the part of a manifest that says what it is.
type header struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   struct {
		Namespace string `json:"namespace"`
		Name      string `json:"name"`
	} `json:"metadata"`
}

// value decodes one JSON value: an object or a list.
func (d *decoder) value(where string, data []byte, list listTypes) {
	var h header
	if err := kjson.UnmarshalCaseSensitivePreserveInts(data, &h); err != nil {
		d.errs = append(d.errs, fmt.Errorf("%s: %w", where, typeError(err, "", nil)))
		return
	}
	if h.APIVersion == "" {
		h.APIVersion = list.apiVersion
	}
	if h.Kind == "" {
		h.Kind = list.kind
	}
	items, isList := strings.CutSuffix(h.Kind, "List")
	versions := apiVersions(items)
	switch {
	case isList && !list.in && items == "" && (h.APIVersion == "v1" || h.APIVersion == GroupVersion):
		d.list(where, data, listTypes{in: true})
	case isList && !list.in && slices.Contains(versions, h.APIVersion):
		d.list(where, data, listTypes{true, h.APIVersion, items})
	case isList && !list.in && len(versions) > 0:
		d.version(where+": "+h.Kind, h.APIVersion, versions)
	default:
		d.object(where, data, h)
	}
}

// version says which apiVersions the kind could have.
func (d *decoder) version(where, have string, want []string) {
	value := ""
	if have != "" {
		value = strconv.Quote(have) + ": "
	}
	d.fail(where, `apiVersion: %smust be "%s"`, value, strings.Join(want, `" or "`))
}

func (d *decoder) list(where string, data []byte, types listTypes) {
	var list struct {
		metav1.TypeMeta `json:",inline"`
		Metadata        metav1.ListMeta   `json:"metadata"`
		Items           []json.RawMessage `json:"items"`
	}
	strict, err := kjson.UnmarshalStrict(data, &list)
	if err != nil {
		d.errs = append(d.errs, fmt.Errorf("%s: %w", where, typeError(err, "", nil)))
		return
	}
	where += ": " + list.Kind
	d.strict(where, "", strict)
	for i, item := range list.Items {
		d.value(fmt.Sprintf("%s: item %d", where, i+1), item, types)
	}
}

func (d *decoder) object(where string, data []byte, h header) {
	name := Key{Kind(h.Kind), h.Metadata.Namespace, h.Metadata.Name}.String()
	info, ok := manifestKind(h.APIVersion, h.Kind)
	if !ok {
		d.noKind(where, name, h)
		return
	}
	where += ": " + name
	obj := New(info.Kind)
	strict, err := kjson.UnmarshalStrict(data, obj)
	if err != nil {
		d.errs = append(d.errs, fmt.Errorf("%s: %w", where, typeError(err, info.Kind, data)))
		return
	}
	d.strict(where, info.Kind, slices.DeleteFunc(strict, isStatus))
	d.metadata(where, obj)
	d.objs = append(d.objs, obj)
}

// noKind says why there is no kind for the header.
func (d *decoder) noKind(where, name string, h header) {
	versions := apiVersions(h.Kind)
	info, named := Kind(h.Kind).Info()
	switch {
	case h.Kind == "":
		d.fail(where, `kind: must be set, e.g. "%s"`, KindIPPool)
	case len(versions) > 0:
		d.version(where+": "+name, h.APIVersion, versions)
	case named:
		d.fail(where, "%s: kind %q is written with apiVersion %s and kind %s", name, h.Kind, info.APIVersion, info.Manifest)
	default:
		d.fail(where, "%s: kind %q is not supported by korat: use %s", name, h.Kind, kindInstead(h.Kind))
	}
}

// kindInstead gives the kinds to use instead of one that is not supported.
func kindInstead(kind string) string {
	switch kind {
	case "StagedKubernetesNetworkPolicy":
		return string(KindStagedNetworkPolicy)
	case "AdminNetworkPolicy", "BaselineAdminNetworkPolicy":
		return string(KindClusterNetworkPolicy)
	}
	return "one of " + supportedManifests()
}

// isStatus says whether the unknown field is the status: what a controller says, and nothing that anybody wants. Kubernetes'
// API server leaves it out of what is applied, too.
func isStatus(err error) bool {
	var field kjson.FieldError
	return errors.As(err, &field) && field.FieldPath() == "status"
}

// strict records unknown and duplicate fields of an object of the kind, or of a list, which has none.
func (d *decoder) strict(where string, kind Kind, errs []error) {
	for _, err := range errs {
		var field kjson.FieldError
		switch {
		case errors.As(err, &field) && strings.HasPrefix(err.Error(), "unknown field"):
			path := field.FieldPath()
			d.fail(where, "%s: unknown or not supported by korat%s", path, cmp.Or(instead(path), meant(kind, path)))
		case errors.As(err, &field):
			d.fail(where, "%s: is given twice: remove one", field.FieldPath())
		default:
			d.errs = append(d.errs, fmt.Errorf("%s: %w", where, err))
		}
	}
}

// instead says what to do for what fields of Calico's or Kubernetes' kinds do, if there is anything.
func instead(path string) string {
	name := path[strings.LastIndex(path, ".")+1:]
	switch name {
	case "serviceClusterIPs", "serviceExternalIPs", "serviceLoadBalancerIPs":
		return ": services are not advertised; for service-loop prevention name the ranges in FelixConfiguration's serviceCIDRs"
	case "domainNames", "domains":
		return ": names are not resolved; name the addresses"
	case "http":
		return ": policies are about packets, not requests; name the port"
	case "interfacePrefix":
		return ": interfaces of pods always begin with " + podInterfaces
	}
	return ""
}

// typeError says in a manifest's terms that a value does not fit its field. kind and data serve to
// find the field where the error does not tell; they may be empty.
func typeError(err error, kind Kind, data []byte) error {
	var mismatch *json.UnmarshalTypeError
	if errors.As(err, &mismatch) && mismatch.Field != "" {
		return fmt.Errorf("%s: must be %s, not %s%s", exactly(kind, data, mismatch.Field), typeName(mismatch.Type), mismatch.Value, hint(mismatch))
	}
	if field := misfit(kind, data); field != "" {
		return fmt.Errorf("%s: %w", field, err)
	}
	if mismatch != nil {
		return fmt.Errorf("must be a mapping with apiVersion, kind, metadata and spec, not %s", mismatch.Value)
	}
	return err
}

// hint says what to do about a scalar that is not the text that its field wants.
func hint(e *json.UnmarshalTypeError) string {
	switch {
	case e.Type == reflect.TypeFor[Protocol]():
		return ""
	case e.Type.Kind() != reflect.String || e.Value == "object" || e.Value == "array":
		return ""
	case strings.HasSuffix(e.Field, "Time") || strings.HasSuffix(e.Field, "Interval"):
		return ": write a duration with its unit, such as 30s"
	default:
		// YAML 1.1 reads n, no, on, 1e3 and 0x10 as something else than text.
		return ": put it in quotes"
	}
}
