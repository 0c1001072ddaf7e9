# SPDX-License-Identifier: Apache-2.0
"""Documents in Markdown: the links in one, and the names of files, `make` targets and settings in its text."""

from __future__ import absolute_import, division

import fnmatch
import glob
import io
import os
import re

# Folders whose files documents name by their paths. Nothing else of a checkout is read: it may hold environments and builds.
FOLDERS = ('docs', 'dom0_lib', 'dom0_plugins', 'packaging', 'plugins', 'tests')


def list_files(root):
    """The paths of the files at the top of `root` and in its FOLDERS, relative to it."""
    top = [name for name in os.listdir(root) if os.path.isfile(os.path.join(root, name))]
    return sorted(top + [os.path.relpath(os.path.join(parent, name), root) for folder in FOLDERS
                         for parent, _, names in os.walk(os.path.join(root, folder)) for name in names])


def read(root, path):
    with io.open(os.path.join(root, path), encoding='utf-8') as source:
        return source.read()


def find_broken_links(root, path):
    """The relative links of the document `path` that lead to no file below `root`, or to no heading of one."""
    broken = []
    for target in re.findall(r'\]\(([^)\s]+)\)', read(root, path)):
        name, _, heading = target.partition('#')
        other = os.path.normpath(os.path.join(os.path.dirname(path), name)) if name else path
        if re.match('[a-z]+:', target):
            continue
        if other.startswith('..') or not os.path.exists(os.path.join(root, other)):
            broken.append(target)
        elif heading and heading not in _list_anchors(read(root, other)):
            broken.append(target)
    return broken


def _list_anchors(text):
    """The names by which links reach the headings of a document."""
    headings = re.findall(r'(?m)^#+ (.*)$', text)
    return [re.sub(r'[^\w -]', '', heading).strip().lower().replace(' ', '-') for heading in headings]


def find_missing_paths(root, text):
    """The paths and modules in `text` that are not below `root`. A * stands for any text; '...' stands for any module."""
    paths = re.findall(r'(?<![\w./<>-])(?:%s)/[\w./*-]*[\w*/]' % '|'.join(FOLDERS), text)
    modules = re.findall(r'\bdom0_lib(?:\.[a-z]\w*)+', text)
    return ([path for path in paths if '...' not in path and not glob.glob(os.path.join(root, path))]
            + [name for name in modules if not name.endswith('.py') and not _is_module(os.path.join(root, *name.split('.')))])


def _is_module(path):
    """Whether `path` is a room or a module without its ending, or a name in a module."""
    return os.path.isdir(path) or os.path.isfile(path + '.py') or os.path.isfile(os.path.dirname(path) + '.py')


def find_missing_names(files, text):
    """The names without a folder, such as test_races.py or hostile_*.py, that none of `files` has."""
    named = re.findall(r'(?<![\w./*<>-])([a-z][\w*]*\.(?:py|md))\b', text)
    known = set(os.path.basename(path) for path in files)
    return [name for name in named if not fnmatch.filter(known, name)]


def find_missing_targets(makefile, text):
    """The targets of `make` in `text`, in code or in an indented block, that `makefile` does not have."""
    targets = re.findall(r'(?m)^([a-z-]+):', makefile)
    return [name for name in re.findall(r'(?m)(?:`|^ +)make ([a-z-]+)', text) if name not in targets]


def find_missing_settings(names, text):
    """The (section, name) of settings, written as `name` in `[section]`, that are not in `names`."""
    named = re.findall(r'`(\w+)(?: = [^`]*)?`\s+in\s+`\[(\w+)\]`', text)
    return [(section, name) for name, section in named if (section, name) not in names]
