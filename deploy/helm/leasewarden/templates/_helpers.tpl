{{- define "leasewarden.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "leasewarden.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "leasewarden.name" . -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "leasewarden.selector" -}}
app.kubernetes.io/name: {{ include "leasewarden.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "leasewarden.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "leasewarden.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "leasewarden.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "leasewarden.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "leasewarden.priorityClass" -}}
{{- if .Values.priorityClass.create -}}
{{- default (include "leasewarden.fullname" .) .Values.priorityClass.name -}}
{{- else -}}
{{- .Values.priorityClass.name -}}
{{- end -}}
{{- end -}}

{{- define "leasewarden.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{/* Where the agent listens: as the configuration says, else on every address of the pod, IPv4 and IPv6. */}}
{{- define "leasewarden.listen" -}}
{{- $export := default (dict) .Values.config.export -}}
{{- default (printf "[::]:%v" (int .Values.port)) $export.listen -}}
{{- end -}}

{{/* The port of that; empty: it does not listen. */}}
{{- define "leasewarden.port" -}}
{{- regexFind "[0-9]+$" (include "leasewarden.listen" .) -}}
{{- end -}}

{{/* Whether anybody outside of the pod gets there: kubelet, Prometheus. */}}
{{- define "leasewarden.reachable" -}}
{{- $listen := include "leasewarden.listen" . -}}
{{- if not (regexMatch "^(off$|OFF$|Off$|127\\.|\\[::1\\]|\\[::ffff:127\\.)" $listen) -}}true{{- end -}}
{{- end -}}

{{/* Whether that is HTTPS. */}}
{{- define "leasewarden.tls" -}}
{{- if (default (dict) .Values.config.export).tls -}}true{{- end -}}
{{- end -}}

{{/* The seccomp profile as a security context constraint names it. */}}
{{- define "leasewarden.seccomp" -}}
{{- $profile := .Values.securityContext.seccompProfile -}}
{{- if eq $profile.type "Localhost" -}}localhost/{{ $profile.localhostProfile }}
{{- else if eq $profile.type "RuntimeDefault" -}}runtime/default
{{- else -}}unconfined
{{- end -}}
{{- end -}}

{{/* The agent's configuration file. */}}
{{- define "leasewarden.config" -}}
{{- $export := merge (dict "listen" (include "leasewarden.listen" .)) (default (dict) .Values.config.export) -}}
{{- $config := merge (dict "version" 1 "export" $export) .Values.config -}}
{{- if .Values.tls.enabled -}}
{{- $config = merge (dict "tls" (merge (dict "enabled" true) (default (dict) .Values.config.tls))) $config -}}
{{- end -}}
{{- toYaml $config -}}
{{- end -}}

{{/* Whether objects of the Prometheus operator are wanted: [root, value, kind]. */}}
{{- define "leasewarden.operator" -}}
{{- $root := index . 0 -}}{{- $value := index . 1 -}}{{- $kind := index . 2 -}}
{{- if eq (toString $value) "auto" -}}
{{- if $root.Capabilities.APIVersions.Has (printf "monitoring.coreos.com/v1/%s" $kind) -}}true{{- end -}}
{{- else if $value -}}true{{- end -}}
{{- end -}}

{{/* Alerts or a dashboard with the runbooks that the values name: [root, text]. */}}
{{- define "leasewarden.runbooks" -}}
{{- $root := index . 0 -}}{{- $text := index . 1 -}}
{{- $ours := "https://github.com/leasewarden/leasewarden/blob/main/docs/runbooks.md" -}}
{{- replace $ours (default $ours $root.Values.runbooks) $text -}}
{{- end -}}
