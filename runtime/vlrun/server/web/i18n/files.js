// Texts about files that have several pictures.

export default {
  en: {
    choosePages: "Choose pages",
    pagesHint: { one: "{name} has {n} page.", other: "{name} has {n} pages." },
    pages: "Pages",
    pageNumbers: "Page numbers, such as 1-3,7",
    pageNumbersWrong: "Write numbers from 1 to {n}, such as 1-3,7.",
    tooManyPages: "A question can be about {n} pages at most.",
    page: "Page {n}",
    pageOf: "{name}, page {n}",
    morePages: "Show more pages",
    addPages: { one: "Add {n} page", other: "Add {n} pages" },
    addNoPages: "Add pages",
    readingFile: "Reading {name}",
    extraMissing: "{name} cannot be read here. The operator of this service can change that with: pip install 'vlrun[{extra}]'",
  },
  zh: {
    choosePages: "选择页面",
    pagesHint: "{name} 共 {n} 页。",
    pages: "页面",
    pageNumbers: "页码，例如 1-3,7",
    pageNumbersWrong: "请输入 1 到 {n} 之间的页码，例如 1-3,7。",
    tooManyPages: "一个问题最多涉及 {n} 页。",
    page: "第 {n} 页",
    pageOf: "{name}，第 {n} 页",
    morePages: "显示更多页面",
    addPages: "添加 {n} 页",
    addNoPages: "添加页面",
    readingFile: "正在读取 {name}",
    extraMissing: "此服务无法读取 {name}。服务的管理员可以安装支持：pip install 'vlrun[{extra}]'",
  },
};
