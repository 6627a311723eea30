# The addon exists on Linux only; everywhere else this is a target without output.
{
  'includes': ['native/sources.gypi'],
  'targets': [
    {
      'target_name': 'tsvisor',
      'conditions': [
        ['OS=="linux"', {
          'sources': ['<@(tsvisor_sources)'],
          'include_dirs': ['<!(node -p "require(\'node-addon-api\').include_dir")'],
          'defines': [
            'NAPI_VERSION=8',
            'NODE_ADDON_API_DISABLE_DEPRECATED',
            'NODE_ADDON_API_CPP_EXCEPTIONS',
            'TSVISOR_VERSION="<!(node -p "require(\'./package.json\').version")"',
          ],
          'cflags_cc': ['-std=c++17', '-Wall', '-Wextra', '-fvisibility=hidden'],
          'cflags_cc!': ['-fno-exceptions'],
          # Never unloaded: vCPU threads and a signal handler may outlive the last Worker that used it.
          'ldflags': ['-Wl,-z,nodelete'],
        }, {
          'type': 'none',
        }],
      ],
    },
  ],
}
