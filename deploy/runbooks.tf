# Which runbooks are on, and each how: docs/runbooks.md says what a file for LOGMEND_RUNBOOKS says, and var.runbooks is
# what that file has under `runbooks`. The function decides by the same rules (functions/logmend/catalog.py).

locals {
  built_in       = "${local.functions}/logmend/runbooks"
  on_by_default  = ["ops-agent", "workload-cert-refresh"]
  built_in_names = [for file in fileset(local.built_in, "*/runbook.yaml") : dirname(file)]
  own_names      = var.runbooks_dir == null ? [] : [for file in fileset(var.runbooks_dir, "*/runbook.yaml") : dirname(file)]
  runbook_folders = merge(
    { for name in local.built_in_names : name => "${local.built_in}/${name}" },
    { for name in local.own_names : name => "${var.runbooks_dir}/${name}" },
  )
  own_files = var.runbooks_dir == null ? [] : [
    for file in fileset(var.runbooks_dir, "*/**") : file
    if can(regex("/(runbook\\.yaml|diagnose\\.sh|(revert/)?(validate|enforce)\\.sh)$", file)) && contains(local.own_names, split("/", file)[0])
  ]
  configured = var.runbooks_dir != null || length(var.runbooks) > 0

  # What lies in the archive beside main.py, and what LOGMEND_RUNBOOKS names there.
  own_sources = merge(
    { for file in local.own_files : "runbooks/${file}" => file("${var.runbooks_dir}/${file}") },
    local.configured ? { "runbooks.yaml" = jsonencode(merge(
      length(local.own_names) > 0 ? { folders = ["runbooks"] } : {},
      { runbooks = var.runbooks },
    )) } : {},
  )

  runbooks = { for name, folder in local.runbook_folders : name => yamldecode(file("${folder}/runbook.yaml"))
    if try(var.runbooks[name].enabled, contains(local.own_names, name) || contains(local.on_by_default, name))
  }
  modes = ["observe", "approve", "enforce"]
  runbook_modes = { for name in keys(local.runbooks) : name =>
    local.modes[min(index(local.modes, var.mode), index(local.modes, try(var.runbooks[name].mode, var.mode)))]
  }
  asked_executors   = { for name in keys(local.runbooks) : name => try(var.runbooks[name].executor, var.executor) }
  runbook_executors = { for name, asked in local.asked_executors : name => asked == "auto" && contains(local.ssh_only, name) ? "ssh" : asked }
  misplaced = [for name in local.ssh_only : name
    if local.asked_executors[name] == "osconfig" && (can(var.runbooks[name].executor) || try(var.runbooks[name].enabled, false) || contains(local.own_names, name))
  ]

  # Values of the parameters: those set here, else those of the default. Anything that is not of its pattern, or could
  # mean something to a shell, is refused below and by the function.
  runbook_parameters = { for name, runbook in local.runbooks : name => merge(
    { for parameter, declared in lookup(runbook, "parameters", {}) : parameter => declared.default },
    name == "ops-agent" ? { version = var.ops_agent_version } : {},
    try(var.runbooks[name].parameters, {}),
  ) }
  parameter_patterns = { for name, runbook in local.runbooks : name => {
    for parameter, declared in lookup(runbook, "parameters", {}) : parameter => try(join("", declared.pattern), declared.pattern)
  } }
  wrong_parameters = flatten([for name, values in local.runbook_parameters : [for parameter, value in values : "${name}: ${parameter}"
    if !can(regex("^(?:${local.parameter_patterns[name][parameter]})$", value)) || !can(regex("^[A-Za-z0-9._:/%+=,~*-]+$", value))
  ]])

  # The sink's filter, as `logmend filter show` composes it.
  filters = [for name in sort(keys(local.runbooks)) : local.runbooks[name].filter if can(local.runbooks[name].filter)]
  filter = join("", [
    "NOT log_id(\"logmend\")\nAND NOT log_id(\"OSConfigAgent\")\nAND (\n",
    join("\nOR\n", [for filter in local.filters : "(\n${trimspace(filter)}\n)"]),
    "\n)\n",
  ])
  declared_permissions = distinct(flatten([for runbook in values(local.runbooks) : lookup(runbook, "permissions", [])]))
}
